"""What agents call: the table at the top of `wire`, answered without the framework. The node is always the caller's own."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from fabricmgr import wire
from fabricmgr.api import bodies
from fabricmgr.api.direct import read_generation
from fabricmgr.api.dispatch import Ask, RawRoute
from fabricmgr.api.polling import Polls
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.errors import Busy, HelloRequired, Invalid, MissingField
from fabricmgr.domain.names import ClusterName
from fabricmgr.kube.tokens import Reviewed, review
from fabricmgr.services import announcing, attachments, blocks, identity, pod_tokens, reports
from fabricmgr.services.attachments import Desk
from fabricmgr.services.cluster_apis import ClusterApis
from fabricmgr.services.hello import hello
from fabricmgr.services.reports import Inbox
from fabricmgr.store import heartbeat_rows
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database, Tx
from fabricmgr.web.privileges import node_of
from fabricmgr.web.responses import Answer, ok

LONGEST_WAIT = 60.0  # seconds
MOST_WAITING_REPORTS = 64

_POLL_QUERY = {"life": "the agent's life", "version": "what it has acted on", "wait": "seconds to wait for a change"}
Run = Callable[[Ask], Awaitable[Answer]]
ATTACHMENT = "/v1/attachments/{network}/{container}/{ifname}"


@dataclass
class Door:
    """Lets so many in at once, and so many wait. Others are told to come again: a thousand agents after an outage leave room."""

    at_once: int
    _turns: asyncio.Semaphore = field(init=False)
    _inside: int = 0

    def __post_init__(self) -> None:
        self._turns = asyncio.Semaphore(self.at_once)

    async def __aenter__(self) -> None:
        if self._inside >= self.at_once + MOST_WAITING_REPORTS:
            raise Busy("taking reports", 1)
        self._inside += 1
        try:
            await self._turns.acquire()
        except BaseException:
            self._inside -= 1
            raise

    async def __aexit__(self, *raised: object) -> None:
        self._inside -= 1
        self._turns.release()


@dataclass(frozen=True)
class AgentRoutes:
    """The raw routes of agents. agent_account: whose pods' tokens count. certificate_lifetime: of those we issue."""

    database: Database
    desk: Desk
    inbox: Inbox
    polls: Polls
    sealer: Sealer
    apis: ClusterApis
    agent_account: str
    certificate_lifetime: timedelta
    door: Door
    clock: Callable[[], datetime]

    def routes(self) -> list[RawRoute]:
        """For the dispatch."""
        attach, beat = (wire.Attach, wire.Attached), (wire.Announcing, wire.Announced)
        return [
            RawRoute("GET", "/v1/authorities", self.authorities, "PEM of every CA to trust", media_type="application/x-pem-file"),
            RawRoute("POST", "/v1/enrol", self.enrol, "First contact of an agent, with a token", wire.Enrol, wire.Enrolled),
            RawRoute("POST", "/v1/nodes/self/certificate", self.renew, "A certificate for a new key", wire.Renew, wire.Enrolled),
            _counted("POST", "/v1/nodes/self/hello", self.hello, "A life begins, or asks again", wire.Hello, wire.Welcome),
            _counted("POST", "/v1/nodes/self/reports", self.report, "A numbered batch of changes", wire.Report, wire.Acknowledged),
            _counted("POST", "/v1/nodes/self/blocks", self.wanted, "Claim, confirm, give back", wire.BlocksWanted, wire.BlocksGranted),
            RawRoute(
                "POST", "/v1/nodes/self/announcing", self.announcing, "What the node announces", *beat, large=True, counted=True, quiet=True
            ),
            RawRoute("GET", "/v1/nodes/self/desired", self.desired, "What the node should be", gives=wire.Desired, query=_POLL_QUERY),
            RawRoute("PUT", ATTACHMENT, self.attach, "Addresses for an attachment, the same ones again", *attach, optional_body=True),
            RawRoute("DELETE", ATTACHMENT, self.detach, "Release them", status=204, query={"generation": "frees only this assignment"}),
        ]

    async def authorities(self, ask: Ask) -> Answer:
        """Open to all: whoever fetches it compares fingerprints."""
        del ask
        async with self.database.read() as tx:
            known = await identity.authority(tx, self.sealer, self.certificate_lifetime, self.clock())
        return Answer(200, known.authorities().encode(), media_type="application/x-pem-file")

    async def enrol(self, ask: Ask) -> Answer:
        """No credentials but the token: one of ours, or a pod's, whose cluster says which node it is."""
        asked = bodies.decode(ask.body, wire.Enrol)
        place = await pod_tokens.node_of(self._review, asked, self.agent_account) if asked.cluster else None

        async def use(tx: Tx) -> wire.Enrolled:
            ours = await identity.authority(tx, self.sealer, self.certificate_lifetime, ask.now)
            if place is not None:
                return await pod_tokens.enrol(tx, asked, *place, ours, ask.now)
            return await identity.enrol(tx, asked, ours, ask.now)

        return ok(await self.database.run(use))

    async def _review(self, cluster: ClusterName, token: str) -> Reviewed:
        return await review(await self.apis.client(cluster), token, pod_tokens.AUDIENCE)

    async def renew(self, ask: Ask) -> Answer:
        """The old certificate counts until it ends."""
        asked, node = bodies.decode(ask.body, wire.Renew), node_of(ask.principal)

        async def use(tx: Tx) -> wire.Enrolled:
            ours = await identity.authority(tx, self.sealer, self.certificate_lifetime, ask.now)
            return await identity.renew(tx, node.serial, asked, ours, ask.now)

        return ok(await self.database.run(use))

    async def hello(self, ask: Ask) -> Answer:
        """Counts towards the limit of reports: it can be as large."""
        asked, node = bodies.decode(ask.body, wire.Hello), node_of(ask.principal)
        async with self.door:
            return ok(await self.database.run(lambda tx: hello(tx, node, asked, ask.now)))

    async def report(self, ask: Ask) -> Answer:
        """Sent again until acknowledged, effective once."""
        batch, node = bodies.decode(ask.body, wire.Report), node_of(ask.principal)
        async with self.door:
            return ok(await reports.report(self.inbox, node, batch, ask.now))

    async def wanted(self, ask: Ask) -> Answer:
        """Repeating it changes nothing."""
        asked, node = bodies.decode(ask.body, wire.BlocksWanted), node_of(ask.principal)
        return ok(await self.database.run(lambda tx: blocks.wanted(tx, node, asked, ask.now)))

    async def desired(self, ask: Ask) -> Answer:
        """At once when the version is not the current one, else when it changes, else 304 after `wait` seconds. It is the heartbeat."""
        node, version, wait = node_of(ask.principal), ask.query.get("version", ""), _wait(ask.query)
        await self._heartbeat(node, _life(ask.query), version, ask.now)
        found = await self.polls.wait(node, version, wait)
        return Answer(304) if found is None else ok(found)

    async def announcing(self, ask: Ask) -> Answer:
        """From nodes that announce something alone, and often."""
        asked, node = bodies.decode(ask.body, wire.Announcing), node_of(ask.principal)
        return ok(await self.database.run(lambda tx: announcing.beat(tx, node, asked)))

    async def _heartbeat(self, node: NodePrincipal, life: UUID, acted: str, now: datetime) -> None:
        current = await self.database.run(lambda tx: heartbeat_rows.beat(tx, node.node_id, life, acted[:64], now))
        if not current:
            reason = "no life of it has said hello yet" if current is None else "another life of it said hello last"
            raise HelloRequired(node.name, reason)

    async def attach(self, ask: Ask) -> Answer:
        """An empty body asks for any address of each family of the network."""
        asked, node = bodies.decode(ask.body or b"{}", wire.Attach), node_of(ask.principal)
        named = (ask.params["network"], ask.params["container"], ask.params["ifname"])
        given = await attachments.attach(self.desk, node, *named, asked, ask.now)
        return ok(given, 200 if given.repeated else 201)

    async def detach(self, ask: Ask) -> Answer:
        """204, also when there is nothing to release."""
        named = (ask.params["network"], ask.params["container"], ask.params["ifname"])
        await attachments.detach(self.desk, node_of(ask.principal), *named, read_generation(ask.query.get("generation")))
        return Answer(204)


def _counted(method: str, template: str, run: Run, summary: str, takes: type, gives: type) -> RawRoute:
    """A call that agents make all the time: large, and told in the audit log by number."""
    return RawRoute(method, template, run, summary, takes, gives, large=True, counted=True)


def _life(query: Mapping[str, str]) -> UUID:
    if "life" not in query:
        raise MissingField("life", "the agent's life, a UUID")
    try:
        return UUID(query["life"])
    except ValueError:
        raise Invalid("life", query["life"], "a UUID") from None


def _wait(query: Mapping[str, str]) -> float:
    return seconds(query.get("wait", "0"), "wait", LONGEST_WAIT)


def seconds(text: str, field: str, most: float) -> float:
    """Seconds in a query. Raises Invalid."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise Invalid(field, text, f"seconds from 0 to {most:g}")
    return value
