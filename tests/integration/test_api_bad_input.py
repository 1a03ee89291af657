"""What must not be taken, over a real server: its code, its sentence, and nothing left behind."""

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.manager import Served, body_of
from tests.support.shared_manager import shared_manager

POOLS = "/v1/pools"
ALLOCATIONS = "/v1/pools/base/allocations"


@pytest.fixture(scope="module")
def served(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with shared_manager(server_url, template, tmp_path_factory.mktemp("input")) as found:
        admin = found.login()
        base = {"name": "base", "purpose": "Service", "prefixes": [{"prefix": "10.1.0.0/24"}, {"prefix": "2001:db8:1::/64"}]}
        assert admin.post(POOLS, json=base).status_code == 201
        pods = {"name": "pods", "prefixes": [{"prefix": "10.2.0.0/24", "block_length": 28}]}
        assert admin.post(POOLS, json=pods).status_code == 201
        assert admin.post("/v1/clusters/default/networks", json={"name": "podnet", "pools": ["pods"]}).status_code == 201
        yield found


@pytest.fixture(scope="module")
def admin(served: Served) -> httpx2.Client:
    return served.login()


def pool(**changed: Any) -> dict[str, Any]:
    return {"name": "new", "prefixes": [{"prefix": "10.9.0.0/24"}], **changed}


REFUSED: list[tuple[str, str, Any, int, str, str]] = [
    # overlapping, unaligned, oversized, host bits
    ("POST", POOLS, pool(prefixes=[{"prefix": "10.1.0.128/25"}]), 409, "PrefixOverlap",
     "prefix 10.1.0.128/25 overlaps 10.1.0.0/24 of pool 'base'"),
    ("POST", POOLS, pool(prefixes=[{"prefix": "10.9.0.0/24"}, {"prefix": "10.9.0.0/25"}]), 400, "Invalid", "do not overlap"),
    ("POST", POOLS, pool(prefixes=[{"prefix": "10.9.0.1/24"}]), 400, "Invalid",
     "prefixes[0].prefix: '10.9.0.1/24' is not valid: expected no host bits set: 10.9.0.0/24"),
    ("POST", POOLS, pool(prefixes=[{"prefix": "10.9.0.0/33"}]), 400, "Invalid", "expected a CIDR"),
    ("POST", POOLS, pool(prefixes=[{"prefix": "10.9.0.0"}]), 400, "Invalid", "expected a CIDR"),
    ("POST", POOLS, pool(prefixes=[{"prefix": "fe80::%eth0/64"}]), 400, "Invalid", "expected a CIDR"),
    ("POST", f"{POOLS}/base/prefixes", {"prefix": "10.2.0.0/28"}, 409, "PrefixOverlap", "of pool 'pods'"),
    # blocks and reservations
    ("POST", POOLS, pool(prefixes=[{"prefix": "10.9.0.0/24", "block_length": 20}]), 400, "Invalid", "a length from 24 to 32"),
    ("POST", POOLS, pool(reservations=[{"prefix": "10.8.0.0/30"}]), 400, "AddressOutside", "lies outside the prefixes of pool new"),
    ("POST", f"{POOLS}/base/reservations", {"prefix": "10.7.0.0/30"}, 400, "AddressOutside", "10.7.0.0/30"),
    ("POST", POOLS, pool(prefixes=[{"prefix": "10.9.0.0/24", "gateway": "10.8.0.1"}]), 400, "Invalid", "an address of 10.9.0.0/24"),
    # values
    ("POST", POOLS, pool(name="Upper"), 400, "Invalid", "name: 'Upper' is not valid"),
    ("POST", POOLS, pool(name=""), 400, "Invalid", "name: ''"),
    ("POST", POOLS, pool(purpose="Pods"), 400, "Invalid", "one of Pod, Service"),
    ("POST", POOLS, pool(cooldown_seconds=-1), 400, "Invalid", "cooldown_seconds"),
    ("POST", POOLS, pool(cooldown_seconds=1e300), 400, "Invalid", "cooldown_seconds"),
    ("POST", POOLS, pool(scope=2**40), 400, "Invalid", "scope"),
    ("POST", POOLS, pool(cluster="nowhere"), 404, "NotFound", "there is no cluster 'nowhere'"),
    ("POST", POOLS, {**pool(), "name": "base"}, 409, "AlreadyExists", "pool 'base' exists already"),
    # unknown and missing fields, wrong types
    ("POST", POOLS, pool(prefxes=[]), 400, "UnknownField", "prefxes is not a field here; did you mean 'prefixes'?"),
    ("POST", POOLS, pool(prefixes=[{"prefx": "10.9.0.0/24"}]), 400, "UnknownField",
     "prefixes[0].prefx is not a field here; did you mean 'prefix'?"),
    ("POST", POOLS, {"prefixes": []}, 400, "MissingField", "name is missing"),
    ("POST", POOLS, pool(prefixes=[{}]), 400, "MissingField", "prefixes[0].prefix is missing"),
    ("POST", POOLS, pool(name=5), 400, "WrongType", "name: 5 has the wrong type: expected a valid string"),
    ("POST", POOLS, pool(prefixes="10.9.0.0/24"), 400, "WrongType", "prefixes"),
    ("POST", POOLS, pool(skip_ends="yes"), 400, "WrongType", "skip_ends"),
    ("POST", POOLS, [], 400, "WrongType", "the body"),
    # unknown names, and what is in use
    ("GET", f"{POOLS}/none", None, 404, "NotFound", "there is no pool 'none'"),
    ("GET", "/v1/clusters/none/networks", None, 404, "NotFound", "there is no cluster 'none'"),
    ("GET", "/v1/clusters/default/networks/none", None, 404, "NotFound", "no network"),
    ("GET", "/v1/clusters/default/nodes/none", None, 404, "NotFound", "no node"),
    ("GET", "/v1/accounts/none", None, 404, "NotFound", "no account"),
    ("GET", "/v1/none", None, 404, "NotFound", "there is no resource '/v1/none'"),
    ("GET", "/", None, 404, "NotFound", "there is no resource"),
    ("DELETE", f"{POOLS}/pods", None, 409, "InUse", "pool 'pods' is in use: network default/podnet"),
    ("DELETE", "/v1/clusters/default", None, 409, "InUse", "cluster 'default' is in use"),
    ("DELETE", "/v1/accounts/admin", None, 409, "InUse", "nobody else could administer"),
    ("DELETE", f"{POOLS}/base/prefixes/10.1.0.0/25", None, 404, "NotFound", "there is no prefix"),
    ("DELETE", f"{POOLS}/base/prefixes/10.1.0.0/x", None, 400, "Invalid", "expected a CIDR"),
    # networks
    ("POST", "/v1/clusters/default/networks", {"name": "n", "pools": []}, 400, "Invalid", "at least one pool"),
    ("POST", "/v1/clusters/default/networks", {"name": "n", "pools": ["none"]}, 404, "NotFound", "no pool 'none'"),
    ("POST", "/v1/clusters/default/networks", {"name": "n", "pools": ["base"]}, 400, "Invalid", "a pool of purpose Pod"),
    ("POST", "/v1/clusters/default/networks", {"name": "n", "pools": ["pods"], "mtu": 100}, 400, "Invalid", "mtu: 100"),
    ("POST", "/v1/clusters/default/networks", {"name": "n", "pools": ["pods"], "routing": "bgp"}, 400, "NotInList",
     "routing: 'bgp' is not one of host-gw, none"),
    ("PATCH", "/v1/clusters/default/networks/podnet", {"name": "other"}, 400, "UnknownField", "name is not a field here"),
    # asked-for addresses (F015)
    ("PUT", f"{ALLOCATIONS}/x", {"address": "2001:db8:1::5%eth0"}, 400, "Invalid", "without zone"),
    ("PUT", f"{ALLOCATIONS}/x", {"address": "::ffff:10.1.0.20"}, 400, "Invalid", "address"),
    ("PUT", f"{ALLOCATIONS}/x", {"address": "2001:db8:1::5/64"}, 400, "Invalid", "prefix length"),
    ("PUT", f"{ALLOCATIONS}/x", {"address": "10.99.0.1"}, 400, "AddressOutside", "10.99.0.1"),
    ("PUT", f"{ALLOCATIONS}/x", {"families": [5]}, 400, "Invalid", "families"),
    ("PUT", f"{ALLOCATIONS}/x", {"families": "4"}, 400, "WrongType", "families: '4' has the wrong type: expected array"),
    ("PUT", f"{ALLOCATIONS}/x", {"familys": [4]}, 400, "UnknownField", "familys is not a field here; did you mean 'families'?"),
    ("PUT", f"{ALLOCATIONS}/.x", {}, 400, "Invalid", "owner: '.x'"),
    ("DELETE", f"{ALLOCATIONS}/x?generation=abc", None, 400, "Invalid", "generation: 'abc'"),
    ("POST", ALLOCATIONS, {"owners": []}, 400, "Invalid", "1 to 1000 owners"),
    ("POST", ALLOCATIONS, {"owners": [{"ownr": "a"}]}, 400, "UnknownField", "owners[0].ownr"),
    ("POST", ALLOCATIONS, {}, 400, "MissingField", "owners is missing"),
    ("GET", "/v1/allocations?address=2001:db8:1::5%25eth0", None, 400, "Invalid", "without zone"),
    ("GET", "/v1/allocations?state=lost", None, 400, "Invalid", "held or released"),
    ("GET", "/v1/allocations?pol=base", None, 400, "UnknownField", "pol is not a field here; did you mean 'pool'?"),
    ("GET", "/v1/allocations?limit=0", None, 400, "Invalid", "limit: 0"),
    ("GET", "/v1/allocations?limit=many", None, 400, "Invalid", "limit: 'many' is not valid: expected a valid integer"),
    ("GET", "/v1/allocations?limit=1&limit=2", None, 400, "Invalid", "the parameter once"),
    ("GET", "/v1/allocations?after=x", None, 400, "Invalid", "after: 'x'"),
    ("GET", "/v1/allocations?pod=%00", None, 400, "Invalid", "without NUL"),
    ("GET", "/v1/history", None, 400, "MissingField", "address is missing"),
    ("GET", "/v1/history?address=10.1.0.1&at=yesterday", None, 400, "Invalid", "a time with an offset"),
    ("GET", "/v1/history?address=10.1.0.1&at=2026-01-01T00:00:00", None, 400, "Invalid", "a time with an offset"),
    ("GET", "/v1/history?owner=me", None, 400, "Invalid", "owner: 'me'"),
    ("GET", "/v1/events?after=-1", None, 400, "Invalid", "after: -1"),
    ("GET", "/v1/events?wait=600", None, 400, "Invalid", "seconds from 0 to 60"),
    # accounts
    ("POST", "/v1/accounts", {"name": "a", "role": "Root", "password": "long enough"}, 400, "NotInList", "role: 'Root'"),
    ("POST", "/v1/accounts", {"name": "a b", "role": "ReadOnly", "password": "long enough"}, 400, "Invalid", "name: 'a b'"),
    ("POST", "/v1/accounts", {"name": "a", "role": "ReadOnly", "password": "short"}, 400, "Invalid", "8 to 64 characters"),
    ("POST", "/v1/accounts", {"name": "a", "role": "ReadOnly", "password": 12345678}, 400, "WrongType", "password: '(not shown)'"),
    ("POST", "/v1/sessions", {"account": "admin", "password": "wrong"}, 401, "Unauthenticated", "wrong account or password"),
    ("POST", "/v1/sessions", {"account": "nobody", "password": "wrong"}, 401, "Unauthenticated", "wrong account or password"),
    ("POST", "/v1/enrol", {"token": "x"}, 400, "MissingField", "machine_id is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "said"), REFUSED, ids=lambda value: str(value)[:60])
def test_bad_input_gets_its_code_and_one_clear_sentence(
    admin: httpx2.Client, method: str, path: str, body: Any, status: int, code: str, said: str
) -> None:
    answer = admin.request(method, path, json=body) if body is not None else admin.request(method, path)

    assert answer.status_code == status, answer.text
    error = body_of(answer)
    assert error["code"] == code, answer.text
    assert said in error["message"], answer.text
    assert "short" not in answer.text
    assert "12345678" not in answer.text


def test_refused_requests_leave_nothing_behind(admin: httpx2.Client) -> None:
    before = (admin.get(POOLS).json(), admin.get("/v1/allocations").json(), admin.get("/v1/accounts").json())

    for method, path, body, *_ in REFUSED:
        admin.request(method, path, json=body)

    after = (admin.get(POOLS).json(), admin.get("/v1/allocations").json(), admin.get("/v1/accounts").json())
    assert after == before


@pytest.mark.parametrize("path", [POOLS, ALLOCATIONS, "/v1/enrol"])
@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "MalformedBody"),
        (b"\xff\xfe", "application/json", 400, "MalformedBody"),
        (b"[" * 100_000, "application/json", 400, "MalformedBody"),
        (b"name: x", "application/yaml", 415, "UnsupportedMediaType"),
        (b"{}", "", 415, "UnsupportedMediaType"),
        (b" " * (5 << 20), "application/json", 413, "BodyTooLarge"),
    ],
)
def test_a_body_that_is_no_json_or_too_large_is_refused(
    admin: httpx2.Client, path: str, content: bytes, kind: str, status: int, code: str
) -> None:
    answer = admin.post(path, content=content, headers={"Content-Type": kind} if kind else {})

    assert answer.status_code == status, answer.text
    assert body_of(answer)["code"] == code


HOSTILE: list[tuple[str, str, bytes]] = [
    ("POST", POOLS, b'{"name":"a","scope":1e400}'),
    ("POST", POOLS, b'{"name":"a","scope":' + b"9" * 40 + b"}"),
    ("POST", POOLS, b'{"name":"a","scope":' + b"9" * 5000 + b"}"),
    ("POST", POOLS, b'{"name":"\\ud800"}'),
    ("POST", POOLS, b'{"name":"a","cooldown_seconds":NaN}'),
    ("POST", POOLS, b'{"name":"a\\u0000"}'),
    ("POST", POOLS, b'{"name":"a","prefixes":[{"prefix":"10.77.0.0/24","block_length":' + b"9" * 30 + b"}]}"),
    ("POST", "/v1/clusters/default/networks", b'{"name":"n","pools":["pods"],"decide":"namespaces","namespaces":["\\u0000"]}'),
    ("POST", "/v1/sessions", b'{"account":"\\u0000","password":"\\u0000"}'),
    ("POST", "/v1/sessions", b'{"account":"' + b"a" * 300_000 + b'","password":"b"}'),
    ("PATCH", "/v1/accounts/reader", b'{"password":"\\ud800aaaaaaaaa"}'),
    ("PUT", f"{ALLOCATIONS}/x", b'{"families":[' + b"9" * 30 + b"]}"),
    ("PUT", f"{ALLOCATIONS}/x", b'{"address":"\\ud800"}'),
    ("POST", "/v1/enrol", b'{"token":"\\u0000","machine_id":"a","public_key":"","proof":"","now":"2026-01-01T00:00:00Z"}'),
    ("GET", "/v1/pools/%00", b""),
    ("GET", "/v1/accounts/%ff", b""),
    ("GET", "/v1/accounts?after=%00", b""),
    ("GET", f"/v1/pools?scope={'9' * 30}", b""),
    ("GET", "/v1/pools?scope=-5", b""),
    ("GET", f"/v1/events?after={'9' * 30}", b""),
    ("GET", "/v1/events?wait=nan", b""),
    ("GET", "/v1/history?address=10.0.0.1&at=9999-12-31T23:59:59-14:00", b""),
    ("GET", "/v1/history?address=10.0.0.1&after=0001-01-01T00:00:00%2B14:00/1", b""),
    ("DELETE", f"{ALLOCATIONS}/x?generation={'9' * 30}", b""),
    ("DELETE", f"{POOLS}/base/prefixes/%00/24", b""),
]


@pytest.mark.parametrize(("method", "path", "content"), HOSTILE, ids=lambda value: str(value)[:50])
def test_hostile_input_is_the_callers_fault_and_never_ours(admin: httpx2.Client, method: str, path: str, content: bytes) -> None:
    answer = admin.request(method, path, content=content, headers={"Content-Type": "application/json"} if content else {})

    assert answer.status_code in (400, 401, 404), answer.text
    assert body_of(answer)["message"]


def test_no_body_where_one_is_needed_is_said(admin: httpx2.Client) -> None:
    answer = admin.post(POOLS)

    assert (answer.status_code, body_of(answer)["message"]) == (400, "the body is missing: expected a JSON object")


def test_a_body_without_a_length_is_cut_off_at_the_limit(admin: httpx2.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 65536

    answer = admin.post(POOLS, content=endless(), headers={"Content-Type": "application/json"})

    assert answer.status_code == 413


def test_one_address_has_one_spelling(admin: httpx2.Client) -> None:
    """F015: another spelling of a held address meets its holder, and is found by filter and by who-had."""
    first = admin.put(f"{ALLOCATIONS}/speller", json={"address": "2001:DB8:1:0::0077"})
    second = admin.put(f"{ALLOCATIONS}/other", json={"address": "2001:db8:1::77"})

    assert [each["address"] for each in first.json()["addresses"]] == ["2001:db8:1::77"]
    assert (second.status_code, body_of(second)["code"]) == (409, "AddressHeld")
    for spelling in ("2001:db8:1::77", "2001:DB8:1:0:0::77"):
        assert len(admin.get("/v1/allocations", params={"address": spelling}).json()["items"]) == 1
        assert admin.get("/v1/history", params={"address": spelling}).json()["items"][0]["owner"].startswith("speller")
    assert admin.delete(f"{ALLOCATIONS}/speller").status_code == 204


def test_an_exhausted_pool_is_503_and_names_itself(admin: httpx2.Client) -> None:
    tiny = {"name": "tiny", "purpose": "Service", "prefixes": [{"prefix": "10.60.0.0/31"}]}
    assert admin.post(POOLS, json=tiny).status_code == 201
    for owner in ("a", "b"):
        assert admin.put(f"{POOLS}/tiny/allocations/{owner}", json={}).status_code == 201

    answer = admin.put(f"{POOLS}/tiny/allocations/c", json={})

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert body_of(answer)["message"].startswith("pool 'tiny' has no free IPv4 address")


def test_only_the_current_version_may_be_changed(admin: httpx2.Client) -> None:
    assert admin.post(POOLS, json={"name": "versioned"}).status_code == 201
    shown = admin.get(f"{POOLS}/versioned")
    etag = shown.headers["etag"]

    first = admin.patch(f"{POOLS}/versioned", json={"draining": True}, headers={"If-Match": etag})
    second = admin.patch(f"{POOLS}/versioned", json={"draining": False}, headers={"If-Match": etag})
    nonsense = admin.delete(f"{POOLS}/versioned", headers={"If-Match": '"abc"'})

    assert etag == '"1"'
    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    assert (second.status_code, body_of(second)["code"]) == (412, "VersionConflict")
    assert nonsense.status_code == 412
    assert admin.get(f"{POOLS}/versioned", headers={"If-None-Match": '"2"'}).status_code == 304
    assert admin.get(f"{POOLS}/versioned").json()["draining"] is True


def test_guessing_is_locked_out_by_account_and_source(served: Served) -> None:
    client = served.client()
    guesses = [client.post("/v1/sessions", json={"account": "operator", "password": f"guess {n}"}) for n in range(5)]

    locked = client.post("/v1/sessions", json={"account": "operator", "password": "correct horse"})

    assert {each.status_code for each in guesses} == {401}
    assert (locked.status_code, body_of(locked)["code"]) == (401, "LockedOut")
    assert served.login("reader").get(POOLS).status_code == 200


# --- below HTTP ---------------------------------------------------------------------------------------------------------------


def spoken(served: Served, raw: bytes) -> bytes:
    """Bytes over TLS, and all that comes back until the other side closes."""
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=10) as plain,
        served.trust().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(raw)
        found = b""
        while piece := _read(secure):
            found += piece
        return found


def test_an_unknown_method_is_known_for_one_behind_the_body_of_a_request_that_was_answered_before_it_came(served: Served) -> None:
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=10) as plain,
        served.trust().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(b"POST /v1/pools HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n")
        early = _read(secure)
        while not early.endswith(b"}}}"):
            early += _read(secure)

        secure.sendall(b"{}FOO /v1/pools HTTP/1.1\r\nHost: a\r\n\r\n")
        late = _read(secure)

    assert early.startswith(b"HTTP/1.1 401 ")
    assert late.startswith(b"HTTP/1.1 501 ")


def _read(secure: ssl.SSLSocket) -> bytes:
    try:
        return secure.recv(65536)
    except ssl.SSLEOFError:
        return b""


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"FOO /v1/pools HTTP/1.1\r\nHost: a\r\n\r\n", 501, "MethodUnknown"),
        (b"PROPFIND /v1/pools HTTP/1.1\r\nHost: a\r\n\r\n", 501, "MethodUnknown"),
        (b"get /v1/pools HTTP/1.1\r\nHost: a\r\n\r\n", 501, "MethodUnknown"),
        (b"GET /v1/pools HTTP/9.9\r\nHost: a\r\n\r\n", 400, "MalformedBody"),
        (b"GET /v1/pools HTTP/1.1\r\nbad header\r\n\r\n", 400, "MalformedBody"),
        (b"\x00\x01\x02\r\n\r\n", 400, "MalformedBody"),
        (b"POST /v1/pools HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "MalformedBody"),
        (b"GET /v1/pools HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431, "HeadTooLarge"),
        (b"GET /v1/pools HTTP/1.1\r\nX: " + b"a" * 70_000, 431, "HeadTooLarge"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 431, "HeadTooLarge"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_never_becomes_a_request_is_answered_as_json_too(served: Served, raw: bytes, status: int, code: str) -> None:
    head, _, body = spoken(served, raw).partition(b"\r\n\r\n")

    assert head.split(b" ")[1] == str(status).encode(), head
    assert b"connection: close" in head
    assert f'"code":"{code}"'.encode() in body


def test_an_upgrade_is_not_made_and_the_request_is_answered(served: Served) -> None:
    answer = spoken(served, b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nrubbish")

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1
