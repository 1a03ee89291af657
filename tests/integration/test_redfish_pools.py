"""Blocks and allocations of a pool by Redfish, and its actions."""

from functools import partial
from typing import Any

import pytest

from fabricmgr.domain.kube import KubePod
from fabricmgr.domain.names import DEFAULT_CLUSTER, network_name, pool_name
from fabricmgr.domain.network import NetworkDraft
from fabricmgr.services import clusters, networks
from fabricmgr.store import api_rows, kube_rows
from fabricmgr.store.tx import Tx
from tests.integration.test_redfish import PODS, POOLS, Json, as_boss, message_of, service
from tests.support.database import NOW, opened
from tests.support.rows import insert_allocation, insert_block, insert_node

OWN = f"{POOLS}/pods/Oem/FabricMgr"
ACTIONS = f"{POOLS}/pods/Actions/Oem/FabricMgrAddressPool"


async def default_cluster(url: str) -> int:
    async with opened(url) as database:
        return (await database.run(partial(clusters.ensure_default, now=NOW))).id


async def test_an_owner_gets_an_address_once_whoever_asks_and_gives_it_back(database_url: str) -> None:
    await default_cluster(database_url)
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)

        made = await client.post(f"{ACTIONS}.Allocate", json={"Owner": "printer", "Families": ["IPv4"]})
        again = await client.post(f"{ACTIONS}.Allocate", json={"Owner": "printer", "Families": ["IPv4"]})
        shown = await client.get(made.headers["location"])
        released = await client.post(f"{ACTIONS}.Release", json={"Owner": "printer"})
        gone = await client.get(made.headers["location"])

    assert (made.status_code, again.status_code, shown.status_code) == (201, 200, 200)
    assert made.json() == again.json() == shown.json()
    assert made.json()["Owner"] == {"Kind": "Direct", "Name": "printer"}
    assert [each["Family"] for each in made.json()["Addresses"]] == ["IPv4"]
    assert (released.status_code, gone.status_code) == (204, 404)


async def test_an_address_that_is_held_is_not_assigned_to_another_owner(database_url: str) -> None:
    await default_cluster(database_url)
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)

        first = await client.post(f"{ACTIONS}.Assign", json={"Owner": "a", "Address": "10.1.7.7"})
        second = await client.post(f"{ACTIONS}.Assign", json={"Owner": "b", "Address": "10.1.7.7"})
        outside = await client.post(f"{ACTIONS}.Assign", json={"Owner": "b", "Address": "10.2.0.1"})
        stale = await client.post(f"{ACTIONS}.Release", json={"Owner": "a", "Generation": 0})
        held = (await client.get(f"{OWN}/Allocations")).json()

    assert first.json()["Addresses"][0]["Address"] == "10.1.7.7"
    assert (second.status_code, message_of(second)) == (409, "PropertyValueResourceConflict")
    assert outside.status_code == 400
    assert stale.status_code == 204
    assert held["Members@odata.count"] == 1


@pytest.mark.parametrize(
    ("action", "body", "message"),
    [
        ("Allocate", {}, "PropertyMissing"),
        ("Allocate", {"Owner": "a", "Families": ["IPv5"]}, "PropertyValueNotInList"),
        ("Allocate", {"Owner": "a b"}, "PropertyValueError"),
        ("Assign", {"Owner": "a", "Address": "10.1.0"}, "PropertyValueError"),
        ("Release", {"Owner": "a", "Generation": "1"}, "PropertyValueTypeError"),
        ("Release", {"Owner": "a", "Generation": -1}, "PropertyValueError"),
        ("Release", {"Owner": "a", "Generation": 2**70}, "PropertyValueError"),
        ("Expand", {"Prefix": "10.9.0.1/16"}, "PropertyValueError"),
        ("Simulate", {}, "PropertyMissing"),
        ("Simulate", {"Manifest": "a: ["}, "MalformedJSON"),
        ("Simulate", {"Manifest": "{kind: Pod}"}, "PropertyMissing"),
        ("Simulate", {"Manifest": "{kind: Pod, metadata: {name: 3}}"}, "PropertyValueError"),
        ("Simulate", {"Manifest": "{}", "Cluster": "No_Name"}, "PropertyValueError"),
    ],
)
async def test_an_action_is_refused_by_the_parameter_that_is_wrong(database_url: str, action: str, body: Json, message: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)

        answer = await client.post(f"{ACTIONS}.{action}", json=body)

        assert (answer.status_code, message_of(answer)) == (400, message)


async def test_expand_adds_a_prefix_and_refuses_one_that_overlaps(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)

        added = await client.post(f"{ACTIONS}.Expand", json={"Prefix": "10.9.0.0/16", "BlockLength": 24})
        overlapping = await client.post(f"{ACTIONS}.Expand", json={"Prefix": "10.9.1.0/24"})
        ranges = (await client.get(f"{POOLS}/pods")).json()["Oem"]["FabricMgr"]["Ranges"]

    assert (added.status_code, overlapping.status_code) == (204, 409)
    assert {"Prefix": "10.9.0.0/16", "Family": "IPv4", "BlockLength": 24, "Central": False} in ranges


async def test_simulate_says_what_a_manifest_takes_and_takes_nothing(database_url: str) -> None:
    await default_cluster(database_url)
    deployment = "{kind: Deployment, metadata: {name: web}, spec: {replicas: 3, template: {spec: {containers: []}}}}"
    service_ = "{kind: Service, metadata: {name: web}, spec: {type: LoadBalancer, loadBalancerClass: fabricmgr.io/lb}}"
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        without = await client.post(f"{ACTIONS}.Simulate", json={"Manifest": deployment})
        async with opened(database_url) as database:
            podnet = NetworkDraft(DEFAULT_CLUSTER, network_name("podnet"), (pool_name("pods"),))
            await database.run(partial(networks.create, draft=podnet, by="anna", now=NOW))

        whole = await client.post(f"{ACTIONS}.Simulate", json={"Manifest": f"{deployment}\n---\n{service_}", "Namespace": "shop"})
        again = await client.post(f"{ACTIONS}.Simulate", json={"Manifest": deployment, "Network": "podnet"})
        elsewhere = await client.post(f"{ACTIONS}.Simulate", json={"Manifest": deployment, "Cluster": "nowhere"})

    web, balanced = whole.json()["Objects"]
    left = {each["Family"]: int(each["Before"]) - int(each["After"]) for each in whole.json()["Left"]}
    assert (whole.status_code, whole.json()["Fits"], web["Fits"], balanced["Fits"]) == (200, False, True, False)
    assert whole.json()["Network"] == "podnet"
    assert web["Takes"][0] == {"AddressPool": {"@odata.id": f"{POOLS}/pods"}, "Family": "IPv4", "Addresses": 3}
    assert (web["Namespace"], left) == ("shop", {"IPv4": 3, "IPv6": 3})
    assert "no pool for Services" in balanced["Reason"]
    assert again.json()["Left"] == whole.json()["Left"]
    assert again.json()["Fits"] is True
    assert (without.status_code, elsewhere.status_code) == (404, 404)


async def test_every_action_is_described_with_the_parameters_it_takes(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)

        actions = (await client.get(f"{POOLS}/pods")).json()["Actions"]["Oem"]
        described = {name: (await client.get(each["@Redfish.ActionInfo"])).json()["Parameters"] for name, each in actions.items()}

    assert set(described) == {f"#FabricMgrAddressPool.{name}" for name in ("Allocate", "Assign", "Release", "Expand", "Simulate")}
    families = next(each for each in described["#FabricMgrAddressPool.Allocate"] if each["Name"] == "Families")
    assert families == {"Name": "Families", "Required": False, "DataType": "StringArray", "AllowableValues": ["IPv4", "IPv6"]}
    assert described["#FabricMgrAddressPool.Assign"][0] == {"Name": "Owner", "Required": True, "DataType": "String"}


async def filled(url: str) -> None:
    """450 pods on two nodes, with a block for each."""
    cluster = await default_cluster(url)
    async with opened(url) as database:

        async def rows(tx: Tx) -> None:
            nodes = [await insert_node(tx, cluster, name) for name in ("n1", "n2")]
            await insert_block(tx, "10.1.4.0/26", "confirmed", nodes[0], claim=1)
            await insert_block(tx, "10.1.5.0/26", "pending", nodes[1], claim=1)
            for number in range(450):
                where: dict[str, Any] = {"cluster_id": cluster, "network": "pods", "container_id": f"c{number}", "ifname": "eth0"}
                about = {"namespace": "web" if number % 3 == 0 else "db", "pod": f"pod-{number}"}
                address = f"10.1.{8 + number // 250}.{1 + number % 250}"
                await insert_allocation(tx, address, node_id=nodes[number % 2], **where, about=about)

        await database.run(rows)


async def test_a_client_that_follows_the_links_reads_every_allocation_once(database_url: str) -> None:
    """F038: a collection that may be large announces its next page by itself."""
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)

        found, uri, sizes = [], f"{OWN}/Allocations", []
        while uri:
            page = (await client.get(uri)).json()
            assert page["Members@odata.count"] == 450
            found += [each["@odata.id"] for each in page["Members"]]
            sizes.append(len(page["Members"]))
            uri = page.get("Members@odata.nextLink", "")

    assert sizes == [200, 200, 50]
    assert len(set(found)) == 450


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("Owner/Node eq 'n1'", 225),
        ("Owner/Namespace eq 'web' and Owner/Node eq 'n2'", 75),
        ("Owner/Pod eq 'pod-7'", 1),
        ("Owner/Container ne 'c1'", 449),
        ("Owner/Node eq 'n1' and not Owner/Namespace eq 'web'", 150),
        ("Owner/Node eq 'n1' or Owner/Node eq 'n2'", 450),
        ("Owner/Node eq 'n1' and Owner/Node eq 'n2'", 0),
        ("Owner/Node eq 'nobody'", 0),
        ("Owner/Node eq 3", 0),
        ("State eq 'Odd'", 0),
        ("State eq 'Held'", 450),
    ],
)
async def test_a_filter_finds_what_fits_wherever_it_is_looked_for(database_url: str, where: str, count: int) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)

        whole = (await client.get(f"{OWN}/Allocations?$filter={where}")).json()
        part = (await client.get(f"{OWN}/Allocations?$filter={where}&$skip=1&$top=2&$expand=.")).json()

    assert whole["Members@odata.count"] == part["Members@odata.count"] == count
    assert len(whole["Members"]) == min(count, 200)
    assert [each["@odata.id"] for each in part["Members"]] == [each["@odata.id"] for each in whole["Members"][1:3]]


async def test_blocks_show_who_holds_them(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await filled(database_url)

        every = (await client.get(f"{OWN}/Blocks?$expand=.")).json()["Members"]
        of_node = (await client.get(f"{OWN}/Blocks?$filter=Node eq 'n2'")).json()
        one = (await client.get(f"{OWN}/Blocks?$filter=Prefix eq '10.1.4.0/26' and State eq 'Confirmed'")).json()
        unclaimed = await client.get(f"{OWN}/Blocks/10.1.6.0-26")
        odd = await client.get(f"{OWN}/Blocks/10.1.4.1-26")

    assert [(each["Id"], each["State"], each["Node"]) for each in every] == [
        ("10.1.4.0-26", "Confirmed", "n1"),
        ("10.1.5.0-26", "Pending", "n2"),
    ]
    assert of_node["Members"] == [{"@odata.id": f"{OWN}/Blocks/10.1.5.0-26"}]
    assert one["Members"] == [{"@odata.id": f"{OWN}/Blocks/10.1.4.0-26"}]
    assert (unclaimed.status_code, odd.status_code) == (404, 404)


async def test_pools_shown_all_at_once_are_as_each_shows_itself(database_url: str) -> None:
    await default_cluster(database_url)
    ranges = {"blue": "10.2.0.0/24", "red": "10.3.0.0/24", "dual": "10.4.0.0/24"}
    async with service(database_url) as client:
        await as_boss(client)
        for name, cidr in ranges.items():
            await client.post(POOLS, json={"Name": name, "Oem": {"FabricMgr": {"Purpose": "Pod", "Ranges": [{"Prefix": cidr}]}}})
        links = {"AddressPools": [{"@odata.id": f"{POOLS}/{each}"} for each in ("blue", "red")]}
        zone = await client.post(f"{POOLS.rpartition('/')[0]}/Zones", json={"Name": "racks", "ZoneType": "ZoneOfEndpoints", "Links": links})
        await client.post(f"{POOLS}/red/Actions/Oem/FabricMgrAddressPool.Allocate", json={"Owner": "printer", "Families": ["IPv4"]})

        shown = (await client.get(f"{POOLS}?$expand=.")).json()["Members"]
        alone = [(await client.get(each["@odata.id"])).json() for each in shown]

    assert zone.status_code == 201, zone.text
    assert sorted(each["Id"] for each in shown) == sorted(ranges)
    assert shown == alone
    assert {each["Id"]: each["Links"]["Zones@odata.count"] for each in shown} == {"blue": 1, "red": 1, "dual": 0}


async def test_selectors_of_a_pool_are_written_and_read_as_they_stand(database_url: str) -> None:
    wanted = {
        "Namespaces": ["shop"],
        "NamespaceLabels": [{"Key": "team", "Values": ["a", "b"]}],
        "NodeLabels": [{"Key": "rack", "Values": []}],
        "ServiceLabels": [],
    }
    async with service(database_url) as client:
        await as_boss(client)
        oem = {"Ranges": [{"Prefix": "10.9.0.0/24"}], "Selectors": wanted, "Priority": 7, "AutoAssign": False}
        made = await client.post(POOLS, json={"Name": "shop", "Oem": {"FabricMgr": oem}})
        where = made.headers["location"]
        tag = {"If-Match": (await client.get(where)).headers["etag"]}
        wrong = {"Selectors": {"ServiceLabels": [{"Key": "tier"}]}}
        refused = await client.patch(where, json={"Oem": {"FabricMgr": wrong}}, headers=tag)
        changed = await client.patch(where, json={"Oem": {"FabricMgr": {"Selectors": {}, "AutoAssign": True}}}, headers=tag)

    shown = made.json()["Oem"]["FabricMgr"]
    after = changed.json()["Oem"]["FabricMgr"]
    assert (shown["Selectors"], shown["Priority"], shown["AutoAssign"]) == (wanted, 7, False)
    assert refused.status_code == 400
    assert (after["Selectors"]["Namespaces"], after["Priority"], after["AutoAssign"]) == ([], 7, True)


async def test_the_zone_of_a_cluster_shows_its_api_server_and_none_of_its_credentials(database_url: str) -> None:
    cluster_id = await default_cluster(database_url)
    async with opened(database_url) as database:
        values = {"server": "https://192.0.2.1:6443", "sealed": b"secret", "server_version": "v1.37.2", "state": "following"}
        await database.run(lambda tx: api_rows.put(tx, cluster_id, values | {"service_ranges": ["10.96.0.0/16"]}))
    async with service(database_url) as client:
        await as_boss(client)

        page = (await client.get("/redfish/v1/Fabrics/ethernet/Zones/default")).json()

    assert page["Oem"]["FabricMgr"]["Cluster"] == {
        "Server": "https://192.0.2.1:6443",
        "ServerVersion": "v1.37.2",
        "State": "Following",
        "Reason": "",
        "PodRanges": [],
        "ServiceRanges": ["10.96.0.0/16"],
    }
    assert "secret" not in str(page)


async def test_allocations_of_a_workload_are_found_by_a_filter(database_url: str) -> None:
    cluster_id = await default_cluster(database_url)
    web = KubePod("shop", "web-1", "u1", labels={"pod-template-hash": "77"}, owner_kind="ReplicaSet", owner_name="web-77")
    shown = [web, KubePod("shop", "db-0", "u2", owner_kind="StatefulSet", owner_name="db")]
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        async with opened(database_url) as database:
            await database.run(partial(_hold, cluster_id=cluster_id, pods=shown))

        found = (await client.get(f"{OWN}/Allocations", params={"$filter": "Owner/Workload eq 'web'", "$expand": "."})).json()
        none = (await client.get(f"{OWN}/Allocations", params={"$filter": "Owner/Workload eq 'web-77'"})).json()

    assert [(each["Owner"]["Pod"], each["Owner"]["Workload"]) for each in found["Members"]] == [("web-1", "web")]
    assert none["Members@odata.count"] == 0


async def _hold(tx: Tx, cluster_id: int, pods: list[KubePod]) -> None:
    await kube_rows.write_pods(tx, cluster_id, pods)
    for place, each in enumerate(pods):
        about = {"namespace": each.namespace, "pod": each.name}
        await insert_allocation(tx, f"10.1.0.{place + 1}", cluster_id=cluster_id, about=about)
