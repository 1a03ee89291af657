"""Systems, switches, endpoints and zones by Redfish."""

from functools import partial
from typing import Any

import httpx2
import pytest

from fabricmgr.domain.names import DEFAULT_CLUSTER, node_name
from fabricmgr.redfish import ids
from fabricmgr.services import clusters, nodes
from fabricmgr.store.tables import port, switch
from fabricmgr.store.tx import Tx
from tests.integration.test_redfish import PODS, POOLS, Json, as_boss, links_in, message_of, service
from tests.support.database import NOW, opened
from tests.support.rows import insert_allocation, insert_node


def nic(node: str, name: str) -> Json:
    """What an endpoint is made of."""
    return {"EntityLink": {"@odata.id": f"{ids.SYSTEMS}/{node}/EthernetInterfaces/{name}"}}


NIC = {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 9000, "up": True, "addresses": ["203.0.113.10/24", "2001:db8:f::10/64"]}
VLAN = {"name": "eth0.7_x", "mac": "02:00:00:00:00:02", "mtu": 1500, "up": False, "addresses": []}
FREE = "default_n1_eth0"


async def filled(url: str) -> None:
    """Two nodes with a NIC each, one with three pods, and a switch that hears one of the NICs."""
    async with opened(url) as database:

        async def rows(tx: Tx) -> None:
            cluster = (await clusters.ensure_default(tx, NOW)).id
            first = await insert_node(tx, cluster, "n1", state="enrolled", interfaces=[NIC, VLAN], free={"pods/4": 7}, labels={"rack": "a"})
            await insert_node(tx, cluster, "n2", state="suspect", interfaces=[NIC | {"mac": "02:00:00:00:00:09"}], system_uuid="not one")
            for number in range(3):
                where: dict[str, Any] = {"cluster_id": cluster, "network": "pods", "container_id": f"c{number}", "ifname": "eth0"}
                await insert_allocation(tx, f"10.1.8.{number + 1}", node_id=first, **where, mac=f"0a:00:00:00:00:0{number}")
            row = {"name": "leaf1", "model": "S100", "role": "leaf", "reachable": False, "observed_at": NOW, "created_at": NOW}
            switch_id = await tx.value(switch.insert().returning(switch.c.id), row)
            heard = {"port_id": NIC["mac"], "port_kind": "mac", "chassis_id": "n1", "chassis_kind": "local", "system_name": "n1"}
            common = {"switch_id": switch_id, "observed_at": NOW}
            first_port = {
                "name": "Ethernet1/1",
                "place": 1,
                "link": "up",
                "speed_mbps": 25000,
                "neighbour": heard,
                "metrics": {"rx_bytes": 2**40},
            }
            await tx.change(port.insert(), common | first_port)
            await tx.change(port.insert(), common | {"name": "Ethernet1/2", "place": 2})

        await database.run(rows)


async def made(client: httpx2.AsyncClient, uri: str, body: Json) -> httpx2.Response:
    answer = await client.post(uri, json=body)
    assert answer.status_code == 201, answer.text
    return answer


async def page(client: httpx2.AsyncClient, uri: str) -> Json:
    answer = await client.get(uri)
    assert answer.status_code == 200, (uri, answer.text)
    found: Json = answer.json()
    return found


async def uris(client: httpx2.AsyncClient, uri: str, name: str) -> list[str]:
    """What a page links to under a name."""
    return links_in((await page(client, uri))["Links"][name])


async def zone_and_endpoint(client: httpx2.AsyncClient) -> None:
    entity = {"EntityType": "NetworkController", **nic("n1", "eth0")}
    await made(client, ids.ENDPOINTS, {"Name": "front", "ConnectedEntities": [entity]})
    links = {"Endpoints": [{"@odata.id": f"{ids.ENDPOINTS}/front"}], "AddressPools": [{"@odata.id": f"{POOLS}/pods"}]}
    await made(client, ids.ZONES, {"Name": "racks", "Links": links})


async def test_a_node_is_a_system_with_the_nics_its_agent_reports(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)

        one, two = await page(client, f"{ids.SYSTEMS}/n1"), await page(client, f"{ids.SYSTEMS}/n2")
        seen = await page(client, f"{ids.SYSTEMS}/n1/EthernetInterfaces/eth0")

    assert (one["Status"]["State"], two["Status"]["State"]) == ("Enabled", "UnavailableOffline")
    assert "UUID" not in two
    assert one["Oem"]["FabricMgr"]["Headroom"] == [{"Network": "pods", "Family": "IPv4", "Free": 7}]
    assert one["Oem"]["FabricMgr"]["Labels"] == [{"Name": "rack", "Value": "a"}]
    assert one["Links"]["Chassis"] == [{"@odata.id": f"{ids.CHASSIS}/n1"}]
    assert seen["IPv4Addresses"] == [{"Address": "203.0.113.10", "SubnetMask": "255.255.255.0"}]
    assert seen["IPv6Addresses"] == [{"Address": "2001:db8:f::10", "PrefixLength": 64}]
    assert (seen["MACAddress"], seen["MTUSize"], seen["LinkStatus"]) == (NIC["mac"], 9000, "LinkUp")
    assert seen["Links"]["Ports"] == [{"@odata.id": f"{ids.SWITCHES}/leaf1/Ports/Ethernet1-1"}]


async def test_pods_host_ends_come_behind_the_nics_a_page_at_a_time(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)

        found, uri = [], f"{ids.SYSTEMS}/n1/EthernetInterfaces?$top=2&$expand=."
        while uri:
            shown = await page(client, uri)
            assert shown["Members@odata.count"] == 5
            found += shown["Members"]
            uri = shown.get("Members@odata.nextLink", "")

    assert [each["Id"] for each in found[:2]] == ["eth0", "eth0.7_5Fx"]
    assert [each["IPv4Addresses"][0]["Address"] for each in found[2:]] == ["10.1.8.1", "10.1.8.2", "10.1.8.3"]
    assert all(each["EthernetInterfaceType"] == "Virtual" for each in found[2:])
    assert found[2]["StatelessAddressAutoConfig"]["IPv6AutoConfigEnabled"] is False


async def test_every_link_of_a_filled_tree_leads_to_a_page(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)
        await zone_and_endpoint(client)

        seen: set[str] = set()
        waiting = [ids.FABRIC, ids.SYSTEMS, ids.CHASSIS]
        while waiting:
            uri = waiting.pop()
            if uri not in seen:
                seen.add(uri)
                shown = await page(client, uri)
                assert shown["@odata.id"] == uri
                waiting += links_in(shown)

    assert len(seen) > 35


async def test_a_switch_that_is_away_keeps_what_was_seen_last(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)

        shown = await page(client, f"{ids.SWITCHES}/leaf1")
        first = await page(client, f"{ids.SWITCHES}/leaf1/Ports/Ethernet1-1")
        second = await page(client, f"{ids.SWITCHES}/leaf1/Ports/Ethernet1-2")
        counted = await page(client, f"{ids.SWITCHES}/leaf1/Ports/Ethernet1-1/Metrics")
        missing = await client.get(f"{ids.SWITCHES}/leaf1/Ports/Ethernet1-3")

    assert shown["Status"]["State"] == "UnavailableOffline"
    assert (shown["Model"], shown["Oem"]["FabricMgr"]["Stale"]) == ("S100", True)
    assert (first["PortId"], first["CurrentSpeedGbps"], first["LinkStatus"]) == ("Ethernet1/1", 25.0, "LinkUp")
    assert first["Ethernet"]["LLDPReceive"]["PortId"] == "02:00:00:00:00:01"
    assert first["Ethernet"]["LLDPReceive"]["ChassisId"] == "6E:31"
    assert "LinkStatus" not in second
    assert "Ethernet" not in second
    assert counted["RXBytes"] == 2**40
    assert missing.status_code == 404


async def test_a_nic_that_nobody_claimed_is_in_the_default_zone_until_a_zone_takes_it(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)
        await made(client, ids.ZONES, {"Name": "racks"})
        before = await uris(client, f"{ids.ZONES}/Default", "Endpoints")

        body = {"Endpoint": {"@odata.id": f"{ids.ENDPOINTS}/{FREE}"}, "ZoneETag": '"1"', "EndpointETag": '"0"'}
        added = await client.post(f"{ids.ZONES}/default_racks/Actions/Zone.AddEndpoint", json=body)

        assert added.status_code == 204, added.text
        assert f"{ids.ENDPOINTS}/{FREE}" in before
        assert f"{ids.ENDPOINTS}/{FREE}" not in await uris(client, f"{ids.ZONES}/Default", "Endpoints")
        assert await uris(client, f"{ids.ZONES}/default_racks", "Endpoints") == [f"{ids.ENDPOINTS}/{FREE}"]
        assert await uris(client, f"{ids.ENDPOINTS}/{FREE}", "Zones") == [f"{ids.ZONES}/default_racks"]


async def test_a_zone_and_what_is_in_it_name_each_other_and_change_together(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)
        await zone_and_endpoint(client)
        zone, endpoint, pool = f"{ids.ZONES}/default_racks", f"{ids.ENDPOINTS}/front", f"{POOLS}/pods"
        etags = {uri: (await client.get(uri)).headers["etag"] for uri in (endpoint, pool)}

        assert await uris(client, zone, "ContainedByZones") == [f"{ids.ZONES}/default"]
        assert await uris(client, f"{ids.ZONES}/default", "ContainsZones") == [zone]
        assert (await uris(client, endpoint, "Zones"), await uris(client, endpoint, "AddressPools")) == ([zone], [pool])
        assert (await uris(client, pool, "Zones"), await uris(client, pool, "Endpoints")) == ([zone], [endpoint])
        assert (await client.delete(endpoint)).status_code == 409
        assert (await client.delete(zone)).status_code == 204
        assert await uris(client, endpoint, "Zones") == [f"{ids.ZONES}/Default"]
        assert await uris(client, pool, "Zones") == []
        for uri, etag in etags.items():
            assert (await client.get(uri)).headers["etag"] != etag
        assert (await client.delete(endpoint)).status_code == 204
        assert (await client.get(endpoint)).status_code == 404
        assert (await client.get(f"{ids.ENDPOINTS}/{FREE}")).status_code == 200


async def test_a_change_of_a_zones_links_keeps_what_it_names_as_kept(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)
        await zone_and_endpoint(client)
        zone, other = f"{ids.ZONES}/default_racks", f"{ids.ENDPOINTS}/default_n2_eth0"

        added = await client.patch(zone, json={"Links": {"Endpoints": [{}, {"@odata.id": other}]}})
        both = await uris(client, zone, "Endpoints")
        removed = await client.patch(zone, json={"Links": {"Endpoints": [None, {}]}}, headers={"If-Match": added.headers["etag"]})
        stale = await client.patch(zone, json={"Description": "x"}, headers={"If-Match": added.headers["etag"]})
        described = await client.patch(zone, json={"Description": "by the door", "Links": {"AddressPools": []}})
        unknown = await client.patch(zone, json={"Links": {"Endpoints": [{"@odata.id": f"{ids.ENDPOINTS}/nobody"}]}})

    assert both == [other, f"{ids.ENDPOINTS}/front"]
    assert links_in(removed.json()["Links"]["Endpoints"]) == [f"{ids.ENDPOINTS}/front"]
    assert stale.status_code == 412
    assert (described.json()["Description"], described.json()["Links"]["AddressPools"]) == ("by the door", [])
    assert unknown.status_code == 404


async def test_what_goes_with_a_node_or_a_pool_changes_the_pages_that_named_it(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await client.post(POOLS, json={"Name": "spare", "Oem": {"FabricMgr": {"Ranges": [{"Prefix": "10.9.0.0/24"}]}}})
        await filled(database_url)
        await zone_and_endpoint(client)
        zone, endpoint = f"{ids.ZONES}/default_racks", f"{ids.ENDPOINTS}/front"
        await client.patch(zone, json={"Links": {"AddressPools": [{"@odata.id": f"{POOLS}/spare"}]}})

        async def etags(*uris: str) -> list[str]:
            return [(await client.get(uri)).headers["etag"] for uri in uris]

        before = await etags(zone, endpoint)
        assert (await client.delete(f"{POOLS}/spare")).status_code == 204
        between = await etags(zone, endpoint)
        assert (await client.delete(f"{ids.SYSTEMS}/n1")).status_code == 204
        after = await etags(zone)

        assert all(one != other for one, other in zip(before, between, strict=True))
        assert after[0] != between[0]
        assert await uris(client, zone, "Endpoints") == await uris(client, zone, "AddressPools") == []
        assert (await client.get(endpoint)).status_code == 404


async def test_a_node_that_is_gone_names_no_endpoint_that_is_not_there(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)
        await database.run(partial(nodes.declare_gone, cluster=DEFAULT_CLUSTER, name=node_name("n1"), by="test", now=NOW))

        system = await page(client, f"{ids.SYSTEMS}/n1")
        interface = await page(client, f"{ids.SYSTEMS}/n1/EthernetInterfaces/eth0")

        assert (await client.get(f"{ids.ENDPOINTS}/{FREE}")).status_code == 404
        assert links_in(system["Links"]["Endpoints"]) == []
        assert "Endpoints" not in interface["Links"]


async def test_a_stale_etag_moves_no_endpoint(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)
        await zone_and_endpoint(client)
        remove = f"{ids.ZONES}/default_racks/Actions/Zone.RemoveEndpoint"
        endpoint = {"Endpoint": {"@odata.id": f"{ids.ENDPOINTS}/front"}}

        stale = [
            await client.post(remove, json=endpoint | {"ZoneETag": '"77"'}),
            await client.post(remove, json=endpoint | {"EndpointETag": '"77"'}),
            await client.post(remove, json=endpoint | {"EndpointETag": "what"}),
            await client.post(remove, json=endpoint, headers={"If-Match": '"77"'}),
        ]
        kept = await uris(client, f"{ids.ZONES}/default_racks", "Endpoints")
        removed = await client.post(remove, json=endpoint)
        again = await client.post(remove, json=endpoint)

    assert [(each.status_code, message_of(each)) for each in stale] == [(412, "PreconditionFailed")] * 4
    assert kept == [f"{ids.ENDPOINTS}/front"]
    assert (removed.status_code, again.status_code) == (204, 204)


async def test_a_zone_of_zones_is_a_cluster(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await filled_clusters(database_url)

        created = await made(client, ids.ZONES, {"Name": "east", "ZoneType": "ZoneOfZones"})
        again = await client.post(ids.ZONES, json={"Name": "east", "ZoneType": "ZoneOfZones"})
        inside = await made(client, ids.ZONES, {"Name": "a", "Links": {"ContainedByZones": [{"@odata.id": f"{ids.ZONES}/east"}]}})
        changed = await client.get(created.headers["location"])
        in_use = await client.delete(created.headers["location"])
        unchangeable = await client.patch(created.headers["location"], json={"Description": "x"})
        await client.delete(inside.headers["location"])
        removed = await client.delete(created.headers["location"])
        default = await client.delete(f"{ids.ZONES}/Default")

    assert created.json()["ZoneType"] == "ZoneOfZones"
    assert inside.headers["location"] == f"{ids.ZONES}/east_a"
    assert changed.headers["etag"] != created.headers["etag"]
    assert (again.status_code, in_use.status_code, removed.status_code, default.status_code) == (409, 409, 204, 409)
    assert message_of(unchangeable) == "PropertyNotWritable"


@pytest.mark.parametrize("name", ["%00", "a%00b", "x" * 3000, "%FF", "%E2%98%83", "default_", "_", "default_n1_", "default_%00", "0" * 32])
async def test_an_id_that_cannot_be_is_not_there(database_url: str, name: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)
        own = f"{POOLS}/pods/Oem/FabricMgr"
        places = [ids.SYSTEMS, ids.CHASSIS, ids.SWITCHES, ids.ZONES, ids.ENDPOINTS, f"{own}/Blocks", f"{own}/Allocations"]
        places += [f"{ids.SYSTEMS}/n1/EthernetInterfaces", f"{ids.SWITCHES}/leaf1/Ports", "/redfish/v1/TaskService/Tasks"]
        places += [
            "/redfish/v1/TaskService/TaskMonitors",
            *(f"/redfish/v1/TelemetryService/{each}" for each in ("MetricReports", "Triggers")),
        ]

        answers = {place: (await client.get(f"{place}/{name}")).status_code for place in places}

    assert answers == dict.fromkeys(places, 404)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("$skip=99999999999999999999", 400),
        ("$top=99999999999999999999", 400),
        ("$skip=999999999", 200),
        ("$top=0", 200),
        ("$filter=Owner/Pod eq '%00'", 200),
        ("$filter=Owner/Pod eq ''", 200),
        ("$filter=Owner/Cluster eq 'No Name'", 200),
        ("$filter=Owner/Node eq null", 200),
        ("$filter=Owner/Node eq 'n1' or", 400),
    ],
)
async def test_odd_queries_of_a_large_collection_are_answered(database_url: str, query: str, status: int) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)

        answer = await client.get(f"{POOLS}/pods/Oem/FabricMgr/Allocations?{query}")

        assert answer.status_code == status
        assert status == 400 or answer.json()["Members"] == []


async def filled_clusters(url: str) -> None:
    async with opened(url) as database:
        await database.run(partial(clusters.ensure_default, now=NOW))


@pytest.mark.parametrize(
    ("uri", "body", "status"),
    [
        (ids.ENDPOINTS, {"Name": "x"}, 400),
        (ids.ENDPOINTS, {"Name": "x", "ConnectedEntities": []}, 400),
        (ids.ENDPOINTS, {"Name": "x", "ConnectedEntities": [{"EntityLink": "/redfish/v1/Systems/n1"}]}, 400),
        (ids.ENDPOINTS, {"Name": "x", "ConnectedEntities": [{"EntityLink": {"@odata.id": "/redfish/v1/Systems/n1"}}]}, 400),
        (
            ids.ENDPOINTS,
            {"Name": "x", "ConnectedEntities": [nic("n1", "eth9")]},
            400,
        ),
        (
            ids.ENDPOINTS,
            {"Name": "a_b", "ConnectedEntities": [nic("n1", "eth0")]},
            400,
        ),
        (
            ids.ENDPOINTS,
            {"Name": "front", "ConnectedEntities": [nic("n2", "eth0")]},
            409,
        ),
        (
            ids.ENDPOINTS,
            {"Name": "more", "ConnectedEntities": [nic("n1", "eth0")]},
            409,
        ),
        (ids.ZONES, {"Name": "Racks"}, 400),
        (ids.ZONES, {"Name": "racks"}, 409),
        (ids.ZONES, {"Name": "x", "ZoneType": "Default"}, 400),
        (ids.ZONES, {"Name": "x", "Links": {"Endpoints": [None]}}, 400),
        (ids.ZONES, {"Name": "x", "Links": {"Endpoints": [{"@odata.id": f"{ids.ENDPOINTS}/a\0"}]}}, 400),
        (ids.ZONES, {"Name": "x", "Links": {"AddressPools": [{"@odata.id": f"{POOLS}/No_Name"}]}}, 400),
        (ids.ZONES, {"Name": "x", "Description": "a\0b"}, 400),
        (ids.ZONES, {"Name": "x", "Links": {"AddressPools": [{"@odata.id": f"{ids.ZONES}/default"}]}}, 400),
    ],
)
async def test_a_wrong_endpoint_or_zone_is_refused_and_nothing_is_made(database_url: str, uri: str, body: Json, status: int) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)
        await zone_and_endpoint(client)
        before = [(await page(client, each))["Members"] for each in (ids.ENDPOINTS, ids.ZONES)]

        answer = await client.post(uri, json=body)

        assert answer.status_code == status, answer.text
        assert [(await page(client, each))["Members"] for each in (ids.ENDPOINTS, ids.ZONES)] == before
