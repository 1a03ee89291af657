"""The manager as the agent sees it: each call of `wire`, over mutual TLS, trusting the enrolled CAs alone.

Never by a proxy from the environment. Every call may come twice, so a connection that broke is tried again with the same request.
"""

import contextlib
import hashlib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import httpx2
import msgspec

from fabricmgr.agent import keys
from fabricmgr.agent.identity import Identity, machine_id, system_uuid
from fabricmgr.domain import errors
from fabricmgr.domain.errors import FabricError, Invalid, ManagerRefused, ManagerUnavailable, TokenRefused
from fabricmgr.wire import (
    Acknowledged,
    Announced,
    Announcing,
    Attach,
    Attached,
    BlocksGranted,
    BlocksWanted,
    Desired,
    Enrol,
    Enrolled,
    Hello,
    Renew,
    Report,
    Welcome,
)

T = TypeVar("T")

# Seconds. An ADD that waits for the manager must answer well before the shim gives up after 15.
CALL_LIMIT = 5.0
# A hello or report of thousands of attachments is one transaction over there.
BATCH_LIMIT = 30.0
TRIES = 3
# A beat that takes longer is late already: the next one says more.
BEAT_LIMIT = 1.0

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass
class NotSent(ManagerUnavailable):
    """No connection came about, so the manager cannot have done anything."""


class _Said(msgspec.Struct, frozen=True):
    code: str
    message: str
    fields: dict[str, object] = {}


class _Refusal(msgspec.Struct, frozen=True):
    error: _Said


class Manager:
    """One node's connection to its manager. `heard_at`: monotonic time of its last answer, None before the first."""

    def __init__(self, identity: Identity, clock: Callable[[], float]):
        self.identity = identity
        self.heard_at: float | None = None
        self.trouble = ""
        self._clock = clock
        self._client = _client(identity)
        self._former: httpx2.AsyncClient | None = None

    @property
    def url(self) -> str:
        return self.identity.about.manager

    async def close(self) -> None:
        for client in (self._client, self._former):
            if client is not None:
                await client.aclose()

    async def hello(self, hello: Hello) -> Welcome:
        return await self._call("POST", "/v1/nodes/self/hello", Welcome, hello, limit=BATCH_LIMIT)

    async def report(self, report: Report) -> Acknowledged:
        return await self._call("POST", "/v1/nodes/self/reports", Acknowledged, report, limit=BATCH_LIMIT)

    async def announcing(self, beat: Announcing) -> Announced:
        return await self._call("POST", "/v1/nodes/self/announcing", Announced, beat, limit=BEAT_LIMIT)

    async def blocks(self, wanted: BlocksWanted) -> BlocksGranted:
        return await self._call("POST", "/v1/nodes/self/blocks", BlocksGranted, wanted, limit=BATCH_LIMIT)

    async def desired(self, life: UUID, version: str, wait: float) -> Desired | None:
        """None: nothing else is desired than `version`, for `wait` seconds."""
        query = {"life": str(life), "version": version, "wait": f"{wait:g}"}
        answer = await self._send("GET", "/v1/nodes/self/desired", query=query, limit=wait + CALL_LIMIT)
        return None if answer.status_code == 304 else self._decode(answer, Desired)

    async def attach(self, network: str, container: str, ifname: str, attach: Attach) -> Attached:
        return await self._call("PUT", f"/v1/attachments/{network}/{container}/{ifname}", Attached, attach, limit=CALL_LIMIT)

    async def detach(self, network: str, container: str, ifname: str, generation: int) -> None:
        query = {"generation": str(generation)}
        await self._send("DELETE", f"/v1/attachments/{network}/{container}/{ifname}", query=query)

    async def renew(self) -> None:
        """A new key, a certificate for it, and from the next connection on both are used."""
        key = await keys.make_apart(str(self.identity.serial()))
        enrolled = await self._call(
            "POST", "/v1/nodes/self/certificate", Enrolled, Renew(public_key=key.public_key, proof=key.proof), limit=BATCH_LIMIT
        )
        self.identity = Identity.store(self.identity.directory, self.url, enrolled, key)
        if self._former is not None:
            await self._former.aclose()
        # Calls that run end on the connections they began on.
        self._former, self._client = self._client, _client(self.identity)

    async def _call(self, method: str, path: str, answer: type[T], body: object, limit: float) -> T:
        return self._decode(await self._send(method, path, body=body, limit=limit), answer)

    def _decode(self, answer: httpx2.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise ManagerUnavailable(self.url, f"its answer cannot be read: {error}") from None

    async def _send(
        self, method: str, path: str, body: object = None, query: Mapping[str, str] | None = None, limit: float = CALL_LIMIT
    ) -> httpx2.Response:
        content = b"" if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            answer = await _again(self._client, method, path, content, query, headers, limit)
        except httpx2.HTTPError as error:
            self.trouble = f"{type(error).__name__} {error}".strip()
            away = NotSent if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout) else ManagerUnavailable
            raise away(self.url, self.trouble) from None
        self.heard_at, self.trouble = self._clock(), ""
        if answer.status_code >= 400:
            raise refusal(answer.status_code, answer.content, self.url)
        return answer


async def _again(
    client: httpx2.AsyncClient,
    method: str,
    path: str,
    content: bytes,
    query: Mapping[str, str] | None,
    headers: Mapping[str, str],
    limit: float,
) -> httpx2.Response:
    """A kept connection that the manager closed shows only when it is used: then once more, on a new one."""
    for left in range(TRIES - 1, -1, -1):
        try:
            return await client.request(method, path, content=content, params=query, headers=headers, timeout=limit)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError, httpx2.CloseError):
            if not left:
                raise
    raise AssertionError("the last try answers or raises")


def _client(identity: Identity) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=16, max_keepalive_connections=4, keepalive_expiry=60)
    return httpx2.AsyncClient(base_url=identity.about.manager, verify=identity.context(), trust_env=False, limits=limits)


def refusal(status: int, content: bytes, url: str) -> FabricError:
    """What the manager refused with, as the error it raised over there: so a CNI caller sees the same code and sentence."""
    try:
        said = msgspec.json.decode(content, type=_Refusal).error
    except msgspec.MsgspecError:
        return ManagerUnavailable(url, f"it answers {status}")
    kind = getattr(errors, said.code, None)
    if isinstance(kind, type) and issubclass(kind, FabricError) and kind is not FabricError:
        with contextlib.suppress(TypeError, ValueError):
            return kind(**{name: _typed(value) for name, value in said.fields.items()})
    if status >= 500:
        return ManagerUnavailable(url, f"it answers {status}: {said.message}")
    return ManagerRefused(said.code, said.message)


def _typed(value: object) -> object:
    """A field as the error holds it: times stand as text in JSON."""
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(value)
    return value


# --- enrolment ------------------------------------------------------------------------------------------------------------


async def enrol(url: str, token: str, key: keys.NewKey, now: datetime) -> Enrolled:
    """First contact: find the CA that the token names, then ask for a certificate over a connection verified by it alone.

    Nothing secret goes over the first, unverified connection. Raises TokenRefused and what the manager refuses with."""
    return await _ask(url, named_authority(await _authorities(url), token), token, "", key, now)


async def enrol_as_pod(url: str, cluster: str, token: str, authority: str, key: keys.NewKey, now: datetime) -> Enrolled:
    """The same where a cluster vouches for its node: the token is its API server's for the agent's pod, the manager's CA (PEM) was given.

    Raises Invalid for a CA that cannot be read, and what the manager refuses with."""
    return await _ask(url, authority, token, cluster, key, now)


async def _ask(url: str, authority: str, token: str, cluster: str, key: keys.NewKey, now: datetime) -> Enrolled:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=authority)
    except ssl.SSLError:
        raise Invalid("authority", "(not shown)", "the manager's CA, as `fabricmgr serve` writes it to DATA_DIR/ca.pem") from None
    request = Enrol(
        token=token,
        cluster=cluster,
        machine_id=machine_id(),
        system_uuid=system_uuid(),
        public_key=key.public_key,
        proof=key.proof,
        now=now,
    )
    async with httpx2.AsyncClient(base_url=url, verify=context, trust_env=False, timeout=BATCH_LIMIT) as client:
        try:
            answer = await client.post("/v1/enrol", content=msgspec.json.encode(request), headers={"Content-Type": "application/json"})
        except httpx2.HTTPError as error:
            raise ManagerUnavailable(url, str(error)) from None
    if answer.status_code >= 400:
        raise refusal(answer.status_code, answer.content, url)
    return msgspec.json.decode(answer.content, type=Enrolled)


async def _authorities(url: str) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is believed yet: what comes back is checked against the token
    async with httpx2.AsyncClient(base_url=url, verify=context, trust_env=False, timeout=CALL_LIMIT) as client:
        try:
            answer = await client.get("/v1/authorities")
        except httpx2.HTTPError as error:
            raise ManagerUnavailable(url, str(error)) from None
    if answer.status_code != 200:
        raise ManagerUnavailable(url, f"it answers {answer.status_code} when asked for its authorities")
    return answer.text


def named_authority(authorities: str, token: str) -> str:
    """The certificate, PEM, whose SHA-256 the token carries. Raises TokenRefused when the manager does not show it."""
    wanted = fingerprint(token)
    for part in authorities.split("-----BEGIN CERTIFICATE-----")[1:]:
        pem = "-----BEGIN CERTIFICATE-----" + part.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
        with contextlib.suppress(ValueError):
            if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() == wanted:
                return pem
    raise TokenRefused("", f"the manager does not show the CA with the fingerprint {wanted} that the token carries: is this its manager?")


def fingerprint(token: str) -> str:
    """The fingerprint of the manager's CA in a token. Raises TokenRefused."""
    found = _FINGERPRINT.search(token)
    if found is None:
        raise TokenRefused("", "it carries no fingerprint of the manager's CA: it is not whole")
    return found[0]
