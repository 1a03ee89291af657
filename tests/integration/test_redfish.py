"""The Redfish service over ASGI, on a real database: every rule on every resource, and pools made, changed and removed."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import httpx2
import pytest

from fabricmgr import dmtf
from fabricmgr.domain.account import AccountDraft, Role
from fabricmgr.domain.replica import Sign
from fabricmgr.redfish.build import build, tree
from fabricmgr.redfish.feed import Feed
from fabricmgr.redfish.layer import refused
from fabricmgr.redfish.resource import Site
from fabricmgr.redfish.streams import Streams
from fabricmgr.services import accounts, installation, replicas
from fabricmgr.services.accounts import Gate
from fabricmgr.services.attachments import Desk
from fabricmgr.services.passwords import Passwords
from fabricmgr.store.listen import Listener
from fabricmgr.store.places import Places
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.writer import Writer
from fabricmgr.web.asgi import Receive, Scope, Send
from fabricmgr.web.audit import Audit
from fabricmgr.web.directory import StoredDirectory
from fabricmgr.web.edge import Edge
from fabricmgr.web.outbound import Outbound
from fabricmgr.web.who import Who
from tests.support.database import NOW, opened
from tests.support.here import CERTIFICATE, HERE

POOLS = "/redfish/v1/Fabrics/ethernet/AddressPools"
SESSIONS = "/redfish/v1/SessionService/Sessions"
PASSWORD = "correct horse"
ROLES = {"boss": Role.ADMINISTRATOR, "op": Role.OPERATOR, "eve": Role.READ_ONLY, "new": Role.OPERATOR}
TIMEOUT = timedelta(minutes=30)
PODS = {
    "Name": "pods",
    "Ethernet": {"IPv4": {"HostAddressRange": {"Lower": "10.1.0.0", "Upper": "10.1.255.255"}}},
    "Oem": {"FabricMgr": {"Purpose": "Pod", "Ranges": [{"Prefix": "2001:db8:1::/64"}], "Reservations": [{"Prefix": "10.1.0.0/28"}]}},
}
Json = dict[str, Any]


@asynccontextmanager
async def service(url: str, clock: Callable[[], datetime] = lambda: NOW, shown: Sequence[str] = ()) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the service, with an account of each role and one that must change its password.

    shown: the client certificate (PEM) of each request, as TLS would hand it over; it may change meanwhile."""
    async with opened(url) as database:
        passwords = Passwords(b"k" * 32)
        gate = Gate(database, passwords)
        hashed = await passwords.hashed(PASSWORD)
        for name, role in ROLES.items():
            draft = AccountDraft(name, hashed, role, must_change=name == "new")
            await database.run(partial(accounts.create, draft=draft, by="test", now=NOW))
        await database.run(lambda tx: installation.ensure(tx, UUID(int=7), NOW))
        who = Who(StoredDirectory(database, gate, TIMEOUT), clock, monotonic=lambda: clock().timestamp())
        writer = await Writer.open(url, clock=lambda: NOW)
        streams = Streams(database, Feed(database), Listener(url, "test", []), asyncio.Event(), lambda: NOW)
        desk = Desk(writer, database, Places(database))
        site = Site(database, gate, who, TIMEOUT, desk, Sealer(b"k" * 32), Outbound((ip_network("192.0.2.0/24"),)), streams, HERE)
        await database.run(lambda tx: replicas.beat(tx, Sign(HERE.id, "host", "1.0", "https://192.0.2.1:8443", CERTIFICATE), NOW))
        layer = build(site, clock)
        edge = Edge(layer, refused, Audit(database, lambda: NOW), lambda: NOW, lambda: "request-1")

        async def certified(scope: Scope, receive: Receive, send: Send) -> None:
            await edge({**scope, "extensions": {"tls": {"client_cert_chain": list(shown)}}}, receive, send)

        transport = httpx2.ASGITransport(app=certified, raise_app_exceptions=True)
        try:
            async with httpx2.AsyncClient(transport=transport, base_url="https://fabric.example") as client:
                yield client
        finally:
            await writer.close()


async def as_boss(client: httpx2.AsyncClient) -> None:
    client.auth = httpx2.BasicAuth("boss", PASSWORD)


def message_of(answer: httpx2.Response) -> str:
    """The first message's name; checks that the error has the extended form."""
    error = answer.json()["error"]
    info = error["@Message.ExtendedInfo"]
    assert error["code"] == info[0]["MessageId"]
    registry, major, minor, name = info[0]["MessageId"].split(".")
    assert f"{registry}.{major}.{minor}" == "Base.1.22"
    assert len(info[0]["MessageArgs"]) == dmtf.message("Base", name).args
    return str(name)


async def every_uri(client: httpx2.AsyncClient) -> list[str]:
    """All that can be reached from the root by links."""
    seen: list[str] = []
    waiting = ["/redfish/v1/"]
    while waiting:
        uri = waiting.pop()
        if uri in seen:
            continue
        seen.append(uri)
        waiting += links_in((await client.get(uri)).json())
    return seen


def links_in(value: object) -> list[str]:
    if isinstance(value, list):
        return [uri for each in value for uri in links_in(each)]
    if not isinstance(value, dict):
        return []
    own = [value["@odata.id"]] if set(value) == {"@odata.id"} else []
    return own + [uri for each in value.values() for uri in links_in(each)]


async def test_every_page_follows_the_rules_that_hold_for_every_page(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await client.post(SESSIONS, json={"UserName": "op", "Password": PASSWORD})

        uris = await every_uri(client)

        whole = {uri for each in tree().resources if each.members is not None for uri in [each.collection_uri]}
        whole |= {each.uri for each in tree().resources if each.schema != "ActionInfo"}
        assert {uri for uri in whole if "{" not in uri} <= set(uris)
        for uri in uris:
            got, head = await client.get(uri), await client.head(uri)
            page = got.json()
            assert got.status_code == head.status_code == 200, uri
            assert page["@odata.id"] == uri
            assert got.headers["odata-version"] == "4.0"
            assert got.headers["cache-control"] == "no-cache"
            assert {"GET", "HEAD"} <= set(got.headers["allow"].split(", "))
            kind = page["@odata.type"].lstrip("#").rpartition(".")[0]
            home = "/redfish/v1/Schemas" if kind.startswith("FabricMgr") else "https://redfish.dmtf.org/schemas/v1"
            assert got.headers["link"] == f"<{home}/{kind}.json>; rel=describedby"
            assert page.get("@odata.etag") == got.headers.get("etag")
            assert head.content == b""
            assert {k: v for k, v in got.headers.items() if k != "date"} == {k: v for k, v in head.headers.items() if k != "date"}
            if "Members" not in page:
                assert uri == "/redfish/v1/" or page["Id"] == uri.rpartition("/")[2]


async def test_every_page_but_the_open_ones_wants_credentials(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        uris = await every_uri(client)
        client.auth = httpx2.Auth()  # sends nothing

        for uri in uris:
            answer = await client.get(uri, headers={"If-None-Match": '"1"'})
            assert answer.status_code == (200 if uri == "/redfish/v1/" else 401), uri
            if answer.status_code == 401:
                assert message_of(answer) == "NoValidSession"
                assert "www-authenticate" in answer.headers


async def test_the_open_documents_answer_without_credentials(database_url: str) -> None:
    async with service(database_url) as client:
        assert (await client.get("/redfish")).json() == {"v1": "/redfish/v1/"}
        assert (await client.get("/redfish/v1")).json()["@odata.id"] == "/redfish/v1/"
        odata = (await client.get("/redfish/v1/odata")).json()
        metadata = await client.get("/redfish/v1/$metadata")

    assert odata["@odata.context"] == "/redfish/v1/$metadata"
    assert {"name": "Fabrics", "kind": "Singleton", "url": "/redfish/v1/Fabrics"} in odata["value"]
    assert metadata.headers["content-type"] == "application/xml"
    assert "EntityContainer" in metadata.text
    assert "AddressPool.v1_3_0" in metadata.text
    assert "FabricMgrAddressPool.v1_0_0" in metadata.text


@pytest.mark.parametrize(
    ("method", "uri", "status", "message"),
    [
        ("GET", "/redfish/v1/Nothing", 404, "ResourceMissingAtURI"),
        ("GET", "/redfish/v1/Fabrics/other", 404, "ResourceMissingAtURI"),
        ("GET", f"{POOLS}/none", 404, "ResourceMissingAtURI"),
        ("GET", f"{SESSIONS}/none", 404, "ResourceMissingAtURI"),
        ("DELETE", "/redfish/v1/", 405, "OperationNotAllowed"),
        ("POST", "/redfish/v1/Fabrics", 405, "OperationNotAllowed"),
        ("PATCH", POOLS, 405, "OperationNotAllowed"),
        ("PURGE", "/redfish/v1/", 501, "OperationNotAllowed"),
        ("GET", f"{POOLS}?$count=true", 501, "QueryNotSupported"),
        ("GET", "/redfish/v1/?$orderby=x", 501, "QueryNotSupported"),
        ("GET", f"{POOLS}?only=foo", 400, "QueryParameterValueFormatError"),
        ("GET", "/redfish/v1/SessionService?only", 400, "QueryParameterValueFormatError"),
    ],
)
async def test_what_is_not_there_is_answered_in_its_own_way(database_url: str, method: str, uri: str, status: int, message: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        answer = await client.request(method, uri)

        assert (answer.status_code, message_of(answer)) == (status, message)
        assert answer.headers["odata-version"] == "4.0"
        if status == 405:
            assert answer.headers["allow"].startswith("GET, HEAD")


async def test_another_odata_version_and_an_accept_that_cannot_be_met_are_refused(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        assert (await client.get("/redfish/v1/", headers={"OData-Version": "4.1"})).status_code == 412
        assert (await client.get("/redfish/v1/", headers={"OData-Version": "4.0"})).status_code == 200
        assert (await client.get("/redfish/v1/Fabrics", headers={"Accept": "text/html"})).status_code == 406
        assert (await client.get("/redfish/v1/Fabrics", headers={"Accept": "application/json;charset=utf-8"})).status_code == 200


async def test_a_pool_is_made_shown_changed_and_removed(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        made = await client.post(f"{POOLS}/Members", json=PODS)
        changed = await client.patch(f"{POOLS}/pods", json={"Oem": {"FabricMgr": {"CooldownSeconds": 90}}})
        listed = (await client.get(POOLS)).json()
        removed = await client.delete(f"{POOLS}/pods")
        gone = await client.get(f"{POOLS}/pods")

    assert made.status_code == 201
    assert made.headers["location"] == made.json()["@odata.id"] == f"{POOLS}/pods"
    assert made.json()["Ethernet"]["IPv4"]["HostAddressRange"] == {"Lower": "10.1.0.0", "Upper": "10.1.255.255"}
    own = made.json()["Oem"]["FabricMgr"]
    assert [each["Prefix"] for each in own["Ranges"]] == ["10.1.0.0/16", "2001:db8:1::/64"]
    assert own["Reservations"] == [{"Prefix": "10.1.0.0/28", "Reason": "reserved"}]
    six = next(each for each in own["Usage"] if each["Family"] == "IPv6")
    assert six["Total"] == str(2**64)
    assert changed.json()["Oem"]["FabricMgr"]["CooldownSeconds"] == 90
    assert changed.headers["etag"] != made.headers["etag"]
    assert listed["Members"] == [{"@odata.id": f"{POOLS}/pods"}]
    assert listed["Members@odata.count"] == 1
    assert removed.status_code == 204
    assert gone.status_code == 404


async def test_a_pool_that_overlaps_another_is_refused_and_the_other_one_named(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(POOLS, json=PODS)

        answer = await client.post(POOLS, json={"Name": "more", "Oem": {"FabricMgr": {"Ranges": [{"Prefix": "10.1.128.0/20"}]}}})

        assert (answer.status_code, message_of(answer)) == (409, "PropertyValueResourceConflict")
        assert answer.json()["error"]["@Message.ExtendedInfo"][0]["MessageArgs"][2] == f"{POOLS}/pods"
        assert (await client.get(POOLS)).json()["Members@odata.count"] == 1


@pytest.mark.parametrize(
    ("body", "message", "field"),
    [
        ({"Oem": {}}, "PropertyMissing", "Name"),
        ({"Name": "x"}, "PropertyMissing", "Oem/FabricMgr/Ranges"),
        ({"Name": "No Name"}, "PropertyMissing", "Oem/FabricMgr/Ranges"),
        ({"Name": 3}, "PropertyValueTypeError", "Name"),
        ({"Name": "x", "Colour": 1}, "PropertyUnknown", "Colour"),
        ({"Name": "x", "Oem": {"FabricMgr": {"Purpose": "Pods"}}}, "PropertyValueNotInList", "Oem/FabricMgr/Purpose"),
        (
            {"Name": "x", "Oem": {"FabricMgr": {"Ranges": [{"Prefix": "10.0.0.1/8"}]}}},
            "PropertyValueError",
            "Oem/FabricMgr/Ranges/0/Prefix",
        ),
        (
            {"Name": "x", "Ethernet": {"IPv4": {"HostAddressRange": {"Lower": "10.0.0.0/8", "Upper": "10.0.0.9"}}}},
            "PropertyValueError",
            "Ethernet/IPv4/HostAddressRange/Lower",
        ),
    ],
)
async def test_a_wrong_pool_is_refused_by_the_property_that_is_wrong(database_url: str, body: Json, message: str, field: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        answer = await client.post(POOLS, json=body)

        assert (answer.status_code, message_of(answer)) == (400, message)
        assert answer.json()["error"]["@Message.ExtendedInfo"][0]["RelatedProperties"] == [f"#/{field}"]
        assert "location" not in answer.headers
        assert (await client.get(POOLS)).json()["Members"] == []


async def test_bodies_that_are_no_json_object_are_refused(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        json_type = {"Content-Type": "application/json"}
        assert (await client.post(POOLS, content=b"{", headers=json_type)).status_code == 400
        assert (await client.post(POOLS, content=b"[]", headers=json_type)).status_code == 400
        assert (await client.post(POOLS, content=b"a=b", headers={"Content-Type": "text/plain"})).status_code == 415
        assert (await client.post(POOLS, content=b" " * (2 << 20), headers=json_type)).status_code == 413


async def test_what_a_client_quotes_as_version_decides_a_write(database_url: str) -> None:
    """F032."""
    async with service(database_url) as client:
        await as_boss(client)
        etag = (await client.post(POOLS, json=PODS)).headers["etag"]

        async def patched(value: str | None, seconds: int) -> int:
            headers = {} if value is None else {"If-Match": value}
            body = {"Oem": {"FabricMgr": {"CooldownSeconds": seconds}}}
            return (await client.patch(f"{POOLS}/pods", json=body, headers=headers)).status_code

        assert await patched('"0", ' + etag, 61) == 200
        assert await patched(etag, 62) == 412
        assert await patched(f"W/{etag}", 62) == 412
        assert await patched(etag.strip('"'), 62) == 412
        assert (await client.get(f"{POOLS}/pods")).json()["Oem"]["FabricMgr"]["CooldownSeconds"] == 61
        assert await patched("*", 62) == 200
        assert await patched(None, 63) == 200
        current = (await client.get(f"{POOLS}/pods")).headers["etag"]
        assert (await client.get(f"{POOLS}/pods", headers={"If-None-Match": current})).status_code == 304


async def test_each_role_may_do_what_the_privilege_registry_lets_it(database_url: str) -> None:
    async with service(database_url) as client:
        for name, status in (("op", 201), ("eve", 403), ("boss", 409)):
            answer = await client.post(POOLS, json=PODS, auth=httpx2.BasicAuth(name, PASSWORD))
            assert answer.status_code == status, name
        for resource in tree().resources:
            for method in ("PATCH", "DELETE"):
                if method in resource.methods and resource.own is None:
                    uri = re.sub(r"{\w+}", "none", resource.uri.replace("{fabric_id}", "ethernet").replace("{pool_id}", "pods"))
                    refusal = await client.request(method, uri, auth=httpx2.BasicAuth("eve", PASSWORD), headers={"If-Match": '"0"'})
                    assert (refusal.status_code, message_of(refusal)) == (403, "InsufficientPrivilege")


async def test_a_client_logs_in_and_out_by_the_location_it_was_given(database_url: str) -> None:
    """F033: the host a client used stands in no URI."""
    async with service(database_url) as client:
        headers = {"Host": "another.example:9443"}
        login = await client.post(SESSIONS, json={"UserName": "eve", "Password": PASSWORD}, headers=headers)
        token = {"X-Auth-Token": login.headers["x-auth-token"]}

        assert login.status_code == 201
        assert login.headers["location"] == login.json()["@odata.id"]
        assert login.headers["location"].startswith(f"{SESSIONS}/")
        assert "another.example" not in login.text
        assert (await client.get(POOLS, headers=token)).status_code == 200
        assert (await client.delete(login.headers["location"], headers=token)).status_code == 204
        assert (await client.get(POOLS, headers=token)).status_code == 401


async def test_nobody_ends_the_session_of_another_without_the_privilege(database_url: str) -> None:
    async with service(database_url) as client:
        location = (await client.post(SESSIONS, json={"UserName": "op", "Password": PASSWORD})).headers["location"]

        assert (await client.delete(location, auth=httpx2.BasicAuth("eve", PASSWORD))).status_code == 403
        assert (await client.delete(location, auth=httpx2.BasicAuth("boss", PASSWORD))).status_code == 204


async def test_a_wrong_password_opens_no_session_and_shows_nothing_of_it(database_url: str) -> None:
    async with service(database_url) as client:
        answer = await client.post(SESSIONS, json={"UserName": "eve", "Password": "wrong-and-secret"})

        assert answer.status_code == 401
        assert "wrong-and-secret" not in answer.text


async def test_an_account_that_must_change_its_password_gets_nothing_else(database_url: str) -> None:
    async with service(database_url) as client:
        login = await client.post(SESSIONS, json={"UserName": "new", "Password": PASSWORD})
        token = {"X-Auth-Token": login.headers["x-auth-token"]}

        refusal = await client.get(POOLS, headers=token)

        assert login.status_code == 201
        assert login.json()["@Message.ExtendedInfo"][0]["MessageId"].endswith(".PasswordChangeRequired")
        assert (refusal.status_code, message_of(refusal)) == (403, "PasswordChangeRequired")
        assert (await client.delete(login.headers["location"], headers=token)).status_code == 204


async def test_pages_add_up_to_the_whole_and_skip_past_the_end_is_empty(database_url: str) -> None:
    """F038: without $top a collection comes whole."""
    async with service(database_url) as client:
        await as_boss(client)
        for number in range(7):
            body = {"Name": f"pool{number}", "Oem": {"FabricMgr": {"Ranges": [{"Prefix": f"10.{number}.0.0/16"}]}}}
            await client.post(POOLS, json=body)

        whole = (await client.get(POOLS)).json()
        found, uri = [], f"{POOLS}?$top=3"
        while uri:
            page = (await client.get(uri)).json()
            assert page["Members@odata.count"] == 7
            found += page["Members"]
            uri = page.get("Members@odata.nextLink", "")
        beyond = (await client.get(f"{POOLS}?$skip=50")).json()

    assert len(whole["Members"]) == 7
    assert "Members@odata.nextLink" not in whole
    assert found == whole["Members"]
    assert (beyond["Members"], beyond["Members@odata.count"]) == ([], 7)


async def test_only_gives_the_member_of_a_collection_of_one(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        assert (await client.get("/redfish/v1/Fabrics?only")).json()["@odata.id"] == "/redfish/v1/Fabrics/ethernet"
        assert (await client.get(f"{POOLS}?only")).json()["Members"] == []


async def test_filter_and_expand_show_the_members_that_are_wanted(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        for number, what in enumerate(("Pod", "Service", "Pod")):
            body = {"Name": f"pool{number}", "Oem": {"FabricMgr": {"Purpose": what, "Ranges": [{"Prefix": f"10.{number}.0.0/16"}]}}}
            await client.post(POOLS, json=body)

        pods = (await client.get(f"{POOLS}?$filter=Oem/FabricMgr/Purpose eq 'Pod'&$top=1")).json()
        more = (await client.get(pods["Members@odata.nextLink"])).json()
        whole = (await client.get(f"{POOLS}?$expand=.&$filter=Id ne 'pool1'")).json()
        bad = await client.get(f"{POOLS}?$filter=Id foo 'x'")
        single = await client.get(f"{POOLS}/pool0?$filter=Id eq 'x'")

    assert (pods["Members@odata.count"], pods["Members"]) == (2, [{"@odata.id": f"{POOLS}/pool0"}])
    assert more["Members"] == [{"@odata.id": f"{POOLS}/pool2"}]
    assert [each["Id"] for each in whole["Members"]] == ["pool0", "pool2"]
    assert whole["Members"][0]["@odata.etag"] == '"1"'
    assert (bad.status_code, single.status_code) == (400, 400)


@pytest.mark.parametrize(("expand", "fabrics", "links"), [(".", True, False), ("~", False, True), ("*", True, True)])
async def test_expand_fills_in_what_it_names(database_url: str, expand: str, fabrics: bool, links: bool) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        root = (await client.get(f"/redfish/v1/?$expand={expand}($levels=2)", headers={"Accept": "application/json"})).json()

    assert ("Members" in root["Fabrics"]) is fabrics
    assert ("Members" in root["Links"]["Sessions"]) is links
    if fabrics:
        assert root["Fabrics"]["Members"][0]["Id"] == "ethernet"


@pytest.mark.parametrize("expand", ["", "x", ".($levels=0)", ".($levels=4)", ".($levels=x)", "..", "*($levels=1"])
async def test_an_expand_that_cannot_be_read_is_400(database_url: str, expand: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        assert (await client.get(f"{POOLS}?$expand={expand}")).status_code == 400


async def test_a_session_that_was_not_used_for_its_time_is_dead_everywhere(database_url: str) -> None:
    now = NOW
    async with service(database_url, lambda: now) as client:
        login = await client.post(SESSIONS, json={"UserName": "boss", "Password": PASSWORD})
        token = {"X-Auth-Token": login.headers["x-auth-token"]}
        now += TIMEOUT - timedelta(seconds=1)
        used = await client.get(POOLS, headers=token)
        now += TIMEOUT - timedelta(seconds=1)
        used_again = await client.get(POOLS, headers=token)
        now += TIMEOUT

        answers = [await client.get(POOLS, headers=token), await client.post(POOLS, json=PODS, headers=token)]
        client.auth = httpx2.BasicAuth("boss", PASSWORD)
        page = await client.get(login.headers["location"])

    assert (used.status_code, used_again.status_code) == (200, 200)
    assert [(each.status_code, message_of(each)) for each in answers] == [(401, "NoValidSession")] * 2
    assert page.status_code == 404
