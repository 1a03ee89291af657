"""Every route that is reached × every role, against the golden table that a reviewer reads."""

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx2

from fabricmgr.domain.account import Role
from fabricmgr.domain.names import cluster_name, node_name
from fabricmgr.domain.node import TokenPolicy
from fabricmgr.services import clusters, identity, nodes
from fabricmgr.services.certificates import Authority
from fabricmgr.store.tx import Database, Tx
from tests.integration.test_redfish import PASSWORD, PODS, POOLS, SESSIONS, as_boss, every_uri, message_of, service
from tests.support.client_issuer import Issuer
from tests.support.database import NOW, opened
from tests.support.enrol import request
from tests.support.here import HERE, authority

GOLDEN = Path(__file__).parents[1] / "unit" / "redfish" / "routes.txt"
ACCOUNTS = "/redfish/v1/AccountService/Accounts"
MULTI_FACTOR = "/redfish/v1/AccountService/MultiFactorAuth"
ROLES = "/redfish/v1/AccountService/Roles"
OWN_ROLES = {"Nobody": [], "Clerk": ["Login", "ConfigureUsers"], "Self": ["ConfigureSelf"]}


@dataclass(frozen=True)
class Route:
    """A row of the golden table. asked: any of these, all of each."""

    method: str
    template: str
    asked: tuple[frozenset[str], ...]
    everybody: bool

    def met(self, uris: list[str]) -> str:
        """The first URI that it is about; "" when the walk met none."""
        above, action, below = self.template.partition("/Actions/")
        pattern = re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(above)))
        return next((f"{uri}{action}{below}" for uri in uris if pattern.fullmatch(uri)), "")

    def lets(self, privileges: frozenset[str]) -> bool:
        """Whether the table lets somebody with these, whose resource it is not."""
        return self.everybody or any(each <= privileges for each in self.asked)


def routes() -> Iterator[Route]:
    for line in GOLDEN.read_text().splitlines():
        method, template, told = line.split(maxsplit=2)
        usual = told.partition(";")[0]
        asked = tuple(frozenset(each.split("+")) for each in usual.split(" | ") if "(own)" not in each)
        yield Route(method, template, asked, told == "anybody")


async def enrolled(database: Database, ours: Authority) -> str:
    """A node of the default cluster. Gives its certificate, PEM."""
    added = (await database.run(partial(clusters.ensure_default, now=NOW))).name

    async def use(tx: Tx) -> str:
        policy = TokenPolicy(ours.fingerprint, timedelta(hours=1), secrets.token_bytes)
        _, token = await nodes.add(tx, cluster_name(added), node_name("n1"), policy, "boss", NOW)
        return (await identity.enrol(tx, request(token), ours, NOW)).certificate

    return await database.run(use)


async def certified(client: httpx2.AsyncClient, names: Iterable[str]) -> dict[str, str]:
    """A certificate for each account to log in by, PEM: every other one kept for it, the rest by a CA that is trusted to name it."""
    company, found = Issuer("The Company", about=NOW), {}
    trusted = {"CertificateString": company.pem, "CertificateType": "PEM"}
    assert (await client.post(f"{MULTI_FACTOR}/ClientCertificate/Certificates", json=trusted)).status_code == 201
    enabled = {"MultiFactorAuth": {"ClientCertificate": {"Enabled": True}}}
    assert (await client.patch("/redfish/v1/AccountService", json=enabled)).status_code == 200
    for number, name in enumerate(names):
        if number % 2:
            found[name] = company.issue(name).pem
            continue
        found[name] = Issuer("itself", about=NOW).issue("whoever").pem
        own = {"CertificateString": found[name], "CertificateType": "PEM"}
        assert (await client.post(f"{ACCOUNTS}/{name}/Certificates", json=own)).status_code == 201
    return found


async def test_every_route_lets_each_role_do_what_the_golden_table_says(database_url: str) -> None:
    """Writes quote a version that never was and a body that cannot be read: whoever may write is told so, and nothing is changed.

    Each account asks by its password and by its client certificate; a node, by its own certificate, may do nothing of it all."""
    shown: list[str] = []
    async with service(database_url, shown=shown) as client, opened(database_url) as database:
        await as_boss(client)
        node = await enrolled(database, authority())
        await client.post(POOLS, json=PODS)
        await client.post(SESSIONS, json={"UserName": "boss", "Password": PASSWORD})
        privileges = {"boss": Role.ADMINISTRATOR.privileges, "op": Role.OPERATOR.privileges, "eve": Role.READ_ONLY.privileges}
        for name, given in OWN_ROLES.items():
            await client.post(ROLES, json={"RoleId": name, "AssignedPrivileges": given})
            await client.post(ACCOUNTS, json={"UserName": f"as{name}", "Password": PASSWORD, "RoleId": name})
            privileges[f"as{name}"] = frozenset(given)
        by_certificate = await certified(client, privileges)
        uris = sorted(await every_uri(client))
        client.auth = httpx2.Auth()
        headers = {"If-Match": '"0"', "Content-Type": "application/json"}

        met = [(route, route.met(uris)) for route in routes()]
        assert sum(bool(uri) for _, uri in met) > 60
        for route, uri in met:
            if not uri or (route.method == "DELETE" and "Sessions" in uri):
                continue
            shown[:] = [node]
            answer = await client.request(route.method, uri, headers=headers, content=None if route.method == "GET" else b"{")
            assert (answer.status_code != 403) is route.everybody, f"node {route.method} {uri}: {answer.status_code} {answer.text}"
            for name, held in privileges.items():
                if route.method == "DELETE" and route.lets(held):
                    continue  # what has no version would be gone
                content = None if route.method == "GET" else b"{"
                shown[:] = [by_certificate[name]]
                same = await client.request(route.method, uri, headers=headers, content=content)
                shown.clear()
                who = httpx2.BasicAuth(name, PASSWORD)
                answer = await client.request(route.method, uri, auth=who, headers=headers, content=content)
                assert same.status_code == answer.status_code, f"{name} {route.method} {uri}: {same.status_code} {same.text}"
                allowed = route.lets(held)
                assert (answer.status_code != 403) is allowed, f"{name} {route.method} {uri}: {answer.status_code} {answer.text}"
                assert answer.status_code < 500
                if route.method == "GET" and allowed:
                    assert answer.status_code == 200, uri
                if not allowed:
                    assert message_of(answer) == "InsufficientPrivilege"


async def test_a_nodes_certificate_is_shown_below_its_system_and_revoked_there(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await enrolled(database, authority())
        collection = (await client.get("/redfish/v1/Systems/n1")).json()["Certificates"]["@odata.id"]
        (member,) = (await client.get(collection)).json()["Members"]
        uri = member["@odata.id"]

        page = (await client.get(uri)).json()
        located = (await client.get("/redfish/v1/CertificateService/CertificateLocations")).json()["Links"]["Certificates"]
        reader = await client.delete(uri, auth=httpx2.BasicAuth("eve", PASSWORD))
        revoked = await client.delete(uri)
        again = await client.delete(uri)

        assert page["Subject"] == {"CommonName": "n1", "Organization": "default"}
        assert page["CertificateUsageTypes"] == ["Device"]
        assert member in located
        assert (reader.status_code, revoked.status_code, again.status_code) == (403, 204, 404)
        async with database.read() as tx:
            assert await identity.places_of_certificates(tx, NOW) == []


async def test_a_session_that_was_not_used_for_its_time_is_no_credential_anywhere(database_url: str) -> None:
    async with service(database_url) as client:
        login = await client.post(SESSIONS, json={"UserName": "eve", "Password": PASSWORD})
        token = {"X-Auth-Token": login.headers["x-auth-token"]}
        uris = await every_uri_as(client, token)

        assert (await client.delete(login.headers["location"], headers=token)).status_code == 204

        for uri in uris:
            answer = await client.get(uri, headers=token)
            assert answer.status_code == (200 if uri == "/redfish/v1/" else 401), uri
    assert str(HERE.id) in " ".join(uris)


async def every_uri_as(client: httpx2.AsyncClient, token: dict[str, str]) -> list[str]:
    client.headers.update(token)
    uris = [uri for uri in await every_uri(client) if "Certificate" not in uri]
    del client.headers["X-Auth-Token"]
    return uris
