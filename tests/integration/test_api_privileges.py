"""Who may do what: every route, raw ones too, asked by everybody. The table below is written by hand and must equal the code's."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from fabricmgr.web.privileges import TABLE
from tests.support.client_issuer import Issuer
from tests.support.manager import PASSWORD, Served, body_of
from tests.support.shared_manager import shared_manager

EVERYBODY = "anonymous admin operator reader changing node revoked"
SIGNED_IN = "admin operator reader"
GOLDEN = f"""
GET /healthz: {EVERYBODY}
GET /readyz: {EVERYBODY}
GET /metrics: {SIGNED_IN}
GET /v1/openapi.json: {EVERYBODY}
GET /v1/authorities: {EVERYBODY}
POST /v1/sessions: {EVERYBODY}
GET /v1/sessions/current: {SIGNED_IN} changing
DELETE /v1/sessions/current: {SIGNED_IN} changing
GET /v1/accounts: {SIGNED_IN}
POST /v1/accounts: admin
GET /v1/accounts/{{account}}: admin
PATCH /v1/accounts/{{account}}: admin
DELETE /v1/accounts/{{account}}: admin
GET /v1/accounts/{{account}}/certificates: admin
POST /v1/accounts/{{account}}/certificates: admin
DELETE /v1/accounts/{{account}}/certificates/{{certificate}}: admin
GET /v1/client-login: {SIGNED_IN}
PATCH /v1/client-login: admin
GET /v1/client-authorities: admin
POST /v1/client-authorities: admin
DELETE /v1/client-authorities/{{certificate}}: admin
GET /v1/roles: {SIGNED_IN}
POST /v1/roles: admin
GET /v1/roles/{{role}}: {SIGNED_IN}
PATCH /v1/roles/{{role}}: admin
DELETE /v1/roles/{{role}}: admin
GET /v1/clusters: {SIGNED_IN}
POST /v1/clusters: admin operator
GET /v1/clusters/{{cluster}}: {SIGNED_IN}
PATCH /v1/clusters/{{cluster}}: admin operator
DELETE /v1/clusters/{{cluster}}: admin operator
DELETE /v1/clusters/{{cluster}}/api: admin operator
GET /v1/clusters/{{cluster}}/explain/pods/{{namespace}}/{{name}}: {SIGNED_IN}
GET /v1/clusters/{{cluster}}/explain/services/{{namespace}}/{{name}}: {SIGNED_IN}
POST /v1/clusters/{{cluster}}/simulate: {SIGNED_IN}
GET /v1/workloads/{{cluster}}/{{namespace}}/{{name}}/peers: {SIGNED_IN}
GET /v1/services: {SIGNED_IN}
GET /v1/services/{{cluster}}/{{namespace}}/{{name}}: {SIGNED_IN}
GET /v1/clusters/{{cluster}}/networks: {SIGNED_IN}
POST /v1/clusters/{{cluster}}/networks: admin operator
GET /v1/clusters/{{cluster}}/networks/{{network}}: {SIGNED_IN}
PATCH /v1/clusters/{{cluster}}/networks/{{network}}: admin operator
DELETE /v1/clusters/{{cluster}}/networks/{{network}}: admin operator
GET /v1/clusters/{{cluster}}/nodes: {SIGNED_IN}
POST /v1/clusters/{{cluster}}/nodes: admin
GET /v1/clusters/{{cluster}}/nodes/{{node}}: {SIGNED_IN}
DELETE /v1/clusters/{{cluster}}/nodes/{{node}}: admin
POST /v1/clusters/{{cluster}}/nodes/{{node}}/token: admin
POST /v1/clusters/{{cluster}}/nodes/{{node}}/revoke: admin
POST /v1/clusters/{{cluster}}/nodes/{{node}}/gone: admin operator
GET /v1/clusters/{{cluster}}/zones: {SIGNED_IN}
POST /v1/clusters/{{cluster}}/zones: admin operator
GET /v1/clusters/{{cluster}}/zones/{{zone}}: {SIGNED_IN}
PATCH /v1/clusters/{{cluster}}/zones/{{zone}}: admin operator
DELETE /v1/clusters/{{cluster}}/zones/{{zone}}: admin operator
GET /v1/endpoints: {SIGNED_IN}
POST /v1/endpoints: admin operator
GET /v1/endpoints/{{endpoint}}: {SIGNED_IN}
PATCH /v1/endpoints/{{endpoint}}: admin operator
DELETE /v1/endpoints/{{endpoint}}: admin operator
GET /v1/pools: {SIGNED_IN}
POST /v1/pools: admin operator
GET /v1/pools/{{pool}}: {SIGNED_IN}
PATCH /v1/pools/{{pool}}: admin operator
DELETE /v1/pools/{{pool}}: admin operator
POST /v1/pools/{{pool}}/prefixes: admin operator
DELETE /v1/pools/{{pool}}/prefixes/{{address}}/{{length}}: admin operator
POST /v1/pools/{{pool}}/reservations: admin operator
DELETE /v1/pools/{{pool}}/reservations/{{address}}/{{length}}: admin operator
GET /v1/pools/{{pool}}/usage: {SIGNED_IN}
GET /v1/pools/{{pool}}/blocks: {SIGNED_IN}
POST /v1/pools/{{pool}}/allocations: admin operator
GET /v1/pools/{{pool}}/allocations/{{owner}}: {SIGNED_IN}
PUT /v1/pools/{{pool}}/allocations/{{owner}}: admin operator
DELETE /v1/pools/{{pool}}/allocations/{{owner}}: admin operator
GET /v1/allocations: {SIGNED_IN}
GET /v1/history: {SIGNED_IN}
GET /v1/events: {SIGNED_IN}
GET /v1/tasks: {SIGNED_IN}
GET /v1/tasks/{{task}}: {SIGNED_IN}
DELETE /v1/tasks/{{task}}: admin
POST /v1/enrol: {EVERYBODY}
POST /v1/nodes/self/certificate: node
POST /v1/nodes/self/hello: node
POST /v1/nodes/self/reports: node
POST /v1/nodes/self/blocks: node
POST /v1/nodes/self/announcing: node
GET /v1/nodes/self/desired: node
PUT /v1/attachments/{{network}}/{{container}}/{{ifname}}: node
DELETE /v1/attachments/{{network}}/{{container}}/{{ifname}}: node
"""
ROWS = {line.partition(": ")[0]: set(line.partition(": ")[2].split()) for line in GOLDEN.strip().splitlines()}
# Accounts that come by client certificate may do what their role may; a certificate that names no account is nobody's.
CERTIFIED = {"certified-admin": "admin", "certified-operator": "operator", "certified-reader": "reader", "named-operator": "operator"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass
class Crowd:
    """A client for each kind of caller."""

    served: Served
    folder: Path

    def __post_init__(self) -> None:
        admin = self.served.login()
        changing = {"name": "changing", "password": PASSWORD, "role": "Administrator", "must_change": True}
        assert admin.post("/v1/accounts", json=changing).status_code == 201
        self.clients = {
            "anonymous": self.served.client(),
            "node": self.served.node(self.folder, "worker-1"),
            "revoked": self.served.node(self.folder, "worker-2"),
            **{name: self.served.login(name) for name in ("admin", "operator", "reader", "changing")},
        }
        assert admin.post("/v1/clusters/default/nodes/worker-2/revoke").status_code == 200
        self.clients |= self.certified(admin)

    def certified(self, admin: httpx2.Client) -> dict[str, httpx2.Client]:
        """By a certificate that is kept for the account, or by one of a trusted CA that names it, or names nobody."""
        company = Issuer("The Company")
        assert admin.post("/v1/client-authorities", json={"certificate": company.pem}).status_code == 201
        assert admin.patch("/v1/client-login", json={"enabled": True}).status_code == 200
        found = {"stranger": company.issue("no-such-account"), "named-operator": company.issue("operator")}
        self.served.tls.load_verify_locations(cadata=company.pem)
        for name in ("admin", "operator", "reader"):
            own = found[f"certified-{name}"] = Issuer("itself").issue("whoever")
            answer = admin.post(f"/v1/accounts/{name}/certificates", json={"certificate": own.pem})
            assert answer.status_code == 201, answer.text
            self.served.tls.load_verify_locations(cadata=own.pem)
        return {name: self.served.client(certificate=given.file(self.folder / f"{name}.pem")) for name, given in found.items()}

    def ask(self, who: str, method: str, path: str) -> httpx2.Response:
        client = self.clients[who]
        if (method, path) == ("DELETE", "/v1/sessions/current") and who in ("admin", "operator", "reader", "changing"):
            client = self.served.login(who)
        body = "{}" if method in ("POST", "PUT", "PATCH") else None
        return client.request(method, path, content=body, headers={"Content-Type": "application/json"} if body else None)


@pytest.fixture(scope="module")
def crowd(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    folder = tmp_path_factory.mktemp("crowd")
    with shared_manager(server_url, template, folder) as served:
        yield Crowd(served, folder)


def path_of(template: str) -> str:
    filled = template.replace("{address}", "10.9.9.0").replace("{length}", "24")
    return re.sub(r"{\w+}", "nobody", filled)


def test_the_table_by_hand_names_every_route_of_the_code() -> None:
    assert set(ROWS) == {f"{method} {template}" for method, template in TABLE}


@pytest.mark.parametrize("who", [*EVERYBODY.split(), *CERTIFIED, "stranger"])
@pytest.mark.parametrize("row", ROWS)
def test_a_route_lets_in_whom_the_table_names_and_nobody_else(crowd: Crowd, row: str, who: str) -> None:
    method, template = row.split()

    answer = crowd.ask(who, method, path_of(template))

    assert answer.status_code != 500, answer.text
    allowed = CERTIFIED.get(who, who) in ROWS[row] or ROWS[row] == set(EVERYBODY.split())
    if allowed:
        assert answer.status_code not in (401, 403), answer.text
    elif who in ("anonymous", "revoked", "stranger"):
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"] == 'Basic realm="fabricmgr"'
    else:
        assert answer.status_code == 403, answer.text
    if not allowed:
        assert body_of(answer)["code"] in ("Unauthenticated", "Forbidden", "PasswordChangeRequired")


@pytest.mark.parametrize("where", sorted({row.split()[1] for row in ROWS}))
def test_a_method_that_a_path_does_not_have_is_405_and_allow_names_those_it_has(crowd: Crowd, where: str) -> None:
    known = {row.split()[0] for row in ROWS if row.split()[1] == where}
    known |= {"HEAD"} if "GET" in known else set()

    for method in set(METHODS) - known:
        answer = crowd.ask("admin", method, path_of(where))

        assert answer.status_code == 405, f"{method} {answer.text}"
        assert set(answer.headers["allow"].split(", ")) == known


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("GET")])
def test_head_is_get_without_the_body(crowd: Crowd, row: str) -> None:
    who, path = min(ROWS[row]), path_of(row.split()[1])

    full, head = crowd.ask(who, "GET", path), crowd.ask(who, "HEAD", path)

    assert head.status_code == full.status_code
    assert head.content == b""
    assert head.headers["content-type"] == full.headers["content-type"]


def test_ones_own_account_is_ones_own(crowd: Crowd) -> None:
    reader = crowd.served.login("reader")

    assert reader.get("/v1/accounts/reader").status_code == 200
    assert reader.get("/v1/accounts/admin").status_code == 403
    assert reader.patch("/v1/accounts/reader", json={"role": "Administrator"}).status_code == 403
    assert reader.patch("/v1/accounts/admin", json={"password": "another one"}).status_code == 403
    assert reader.patch("/v1/accounts/reader", json={"password": PASSWORD}).status_code == 200


def test_an_account_that_must_change_its_password_may_do_so_and_then_everything(crowd: Crowd) -> None:
    admin = crowd.served.login()
    fresh = {"name": "fresh", "password": PASSWORD, "role": "Operator", "must_change": True}
    assert admin.post("/v1/accounts", json=fresh).status_code == 201
    client = crowd.served.login("fresh")

    before = client.get("/v1/pools")
    changed = client.patch("/v1/accounts/fresh", json={"password": "something new"})
    after = crowd.served.login("fresh", "something new").get("/v1/pools")

    assert (before.status_code, body_of(before)["code"]) == (403, "PasswordChangeRequired")
    assert changed.status_code == 200, changed.text
    assert after.status_code == 200


def test_basic_works_and_can_be_wrong(crowd: Crowd) -> None:
    client = crowd.served.client()

    assert client.get("/v1/pools", auth=("reader", PASSWORD)).status_code == 200
    assert client.get("/v1/pools", auth=("reader", "wrong")).status_code == 401
    assert client.get("/v1/pools", headers={"Authorization": "Basic !!!"}).status_code == 401
    assert client.get("/v1/pools", headers={"Authorization": "Bearer x"}).status_code == 401


def test_a_bad_token_is_refused_though_a_good_certificate_comes_with_it(crowd: Crowd) -> None:
    answer = crowd.clients["node"].post("/v1/nodes/self/blocks", json={}, headers={"X-Auth-Token": "0" * 64})

    assert answer.status_code == 401


def test_a_closed_session_counts_no_more(crowd: Crowd) -> None:
    client = crowd.served.login("reader")
    assert client.get("/v1/pools").status_code == 200

    assert client.delete("/v1/sessions/current").status_code == 204

    assert client.get("/v1/pools").status_code == 401
