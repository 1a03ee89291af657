"""Everything of a web worker, put together once: `build` gives the ASGI app, and what must run beside it."""

import asyncio
import secrets
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fastapi.routing import APIRoute

from fabricmgr.api import (
    accounts,
    allocations,
    client_certificates,
    clusters,
    events,
    fabric,
    history,
    networks,
    nodes,
    openapi,
    pools,
    roles,
    services,
    sessions,
    tasks,
    workloads,
)
from fabricmgr.api.agents import AgentRoutes, Door
from fabricmgr.api.direct import DirectRoutes
from fabricmgr.api.dispatch import Ask, Dispatch, Limits, RawRoute, Route
from fabricmgr.api.framework import framework_routes, make_app
from fabricmgr.api.health import Health
from fabricmgr.api.metrics import OpenMetrics, Scrape
from fabricmgr.api.parts import Parts
from fabricmgr.api.polling import Polls
from fabricmgr.domain.account import Lockout
from fabricmgr.domain.errors import FabricError
from fabricmgr.services.accounts import Gate
from fabricmgr.services.announcing import Told
from fabricmgr.services.attachments import Desk
from fabricmgr.services.cluster_apis import ClusterApis
from fabricmgr.services.desired import Views
from fabricmgr.services.kube_shown import asking
from fabricmgr.services.passwords import Passwords
from fabricmgr.services.reports import Inbox
from fabricmgr.settings import ManagerSettings
from fabricmgr.store.listen import Listener
from fabricmgr.store.places import Places
from fabricmgr.store.pressure import Pressure
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database
from fabricmgr.store.wake import ANNOUNCE_CHANNEL, EVENT_CHANNEL, OUTBOX_CHANNEL
from fabricmgr.store.writer import Writer
from fabricmgr.web.asgi import App, Receive, Scope, Send
from fabricmgr.web.audit import Audit
from fabricmgr.web.directory import StoredDirectory
from fabricmgr.web.edge import Edge, identify
from fabricmgr.web.outbound import Outbound
from fabricmgr.web.privileges import TABLE
from fabricmgr.web.responses import Answer, Renderer, ok, problem
from fabricmgr.web.who import Principal, Who

ROUTERS = (
    sessions,
    accounts,
    client_certificates,
    roles,
    clusters,
    networks,
    nodes,
    pools,
    fabric,
    allocations,
    history,
    events,
    tasks,
    workloads,
    services,
)


@dataclass(frozen=True)
class Tree:
    """Somebody else's tree of paths. app: gets requests with the edge's context; renderer: for what is refused before it.

    run: what works behind its requests, until cancelled."""

    app: App
    renderer: Renderer
    run: Callable[[], Coroutine[None, None, None]] | None = None


@dataclass(frozen=True)
class Stores:
    """What a process keeps open. url: of the database, for LISTEN."""

    url: str
    database: Database
    writer: Writer
    sealer: Sealer


@dataclass
class Manager:
    """A web worker's parts. Run `tasks` beside `app`; call `drain` when the end is asked for, before the server stops."""

    app: App
    metrics_app: App
    renderer: Renderer
    parts: Parts
    audit: Audit
    trees: dict[str, Tree] = field(default_factory=dict)

    def mount(self, prefix: str, tree: Tree) -> None:
        """Give all paths below a prefix (such as /redfish) to a tree of its own."""
        self.trees[prefix] = tree

    async def identify(self, scope: Scope) -> Principal:
        """Who asks, for a mounted tree. Raises Unauthenticated."""
        return await identify(self.parts.who, scope)

    def drain(self) -> None:
        """Long polls end now, and readiness says that we go."""
        self.parts.stopping.set()

    async def run(self) -> None:
        """What works behind the requests, until cancelled; the audit log is written to its end then."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.audit.run())
                group.create_task(self.parts.listener.run())
                for tree in self.trees.values():
                    if tree.run is not None:
                        group.create_task(tree.run())
        finally:
            await self.parts.apis.close()


def build(stores: Stores, settings: ManagerSettings, clock: Callable[[], datetime], version: str) -> Manager:
    """Nothing is asked of the database before the first request."""
    parts = make_parts(stores, settings, clock)
    scrape = Scrape(stores.database, clock)
    raw, framework = raw_routes(parts, stores, scrape, version), framework_api_routes()
    app = make_app(framework, version)
    app.state.parts = parts
    routes: list[Route] = [*raw, *framework_routes(framework)]
    check_complete({(route.method, route.template) for route in routes})
    dispatch = Dispatch(routes, app, parts.who, Limits(settings.body_limit, settings.report_body_limit), clock)
    trees: dict[str, Tree] = {}
    renderer = _rendering(trees)
    audit = Audit(stores.database, clock)
    edge = Edge(_branching(dispatch, trees), renderer, audit, clock, lambda: uuid.uuid4().hex)
    return Manager(edge, OpenMetrics(scrape), renderer, parts, audit, trees)


def make_parts(stores: Stores, settings: ManagerSettings, clock: Callable[[], datetime]) -> Parts:
    """What routes work with."""
    passwords = Passwords(secrets.token_bytes(32))
    lockout = Lockout(settings.lockout_attempts, timedelta(seconds=settings.lockout_seconds))
    gate = Gate(stores.database, passwords, lockout)
    who = Who(StoredDirectory(stores.database, gate, settings.session_timeout), clock, settings.basic_auth)
    listener = Listener(stores.url, "web", [OUTBOX_CHANNEL, EVENT_CHANNEL, ANNOUNCE_CHANNEL])
    apis = ClusterApis(stores.database, stores.sealer, Outbound(settings.outbound_allow).address)
    return Parts(stores.database, who, gate, passwords, stores.sealer, apis, listener, asyncio.Event(), settings, clock)


def framework_api_routes() -> list[APIRoute]:
    """FastAPI's."""
    return [route for module in ROUTERS for route in module.router.routes if isinstance(route, APIRoute)]


def raw_routes(parts: Parts, stores: Stores, scrape: Scrape, version: str) -> list[RawRoute]:
    """Those answered without the framework."""
    desk = Desk(stores.writer, stores.database, Places(stores.database), asking(parts.apis))
    agents = AgentRoutes(
        database=stores.database,
        desk=desk,
        inbox=Inbox(stores.writer, Pressure(stores.database, parts.clock)),
        polls=Polls(parts.listener, Views(stores.database), Told(stores.database, parts.listener), parts.stopping),
        sealer=stores.sealer,
        apis=parts.apis,
        agent_account=parts.settings.agent_account,
        certificate_lifetime=parts.settings.node_certificate_lifetime,
        door=Door(parts.settings.reports_at_once),
        clock=parts.clock,
    )
    found = [
        *agents.routes(),
        *DirectRoutes(desk).routes(),
        *Health(stores.database, parts.listener, parts.stopping).routes(),
        RawRoute("GET", "/metrics", lambda _: scrape.answer(), "Metrics in Prometheus' text format", media_type="text/plain"),
    ]
    return [*found, _description(found, version)]


def _description(raw: list[RawRoute], version: str) -> RawRoute:
    kept: list[Answer] = []

    async def describe(ask: Ask) -> Answer:
        del ask
        if not kept:
            kept.append(ok(openapi.describe([*raw, route], framework_api_routes(), version)))
        return kept[0]

    route = RawRoute("GET", "/v1/openapi.json", describe, "This description")
    return route


def check_complete(served: set[tuple[str, str]]) -> None:
    """Every row of the privilege table is served; that every route has a row is seen when the dispatch is made. Raises ValueError."""
    unserved = set(TABLE) - served
    if unserved:
        raise ValueError(f"the privilege table names routes that nobody serves: {sorted(unserved)}")


def _tree_of(trees: Mapping[str, Tree], path: str) -> Tree | None:
    return next((tree for prefix, tree in trees.items() if path == prefix or path.startswith(f"{prefix}/")), None)


def _branching(dispatch: App, trees: Mapping[str, Tree]) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        tree = _tree_of(trees, scope["path"])
        await (dispatch if tree is None else tree.app)(scope, receive, send)

    return app


async def _lifespan(receive: Receive, send: Send) -> None:
    """Whoever runs the server starts and stops what belongs to us, in its own order; uvicorn only wants to be answered."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _rendering(trees: Mapping[str, Tree]) -> Renderer:
    def render(error: FabricError | None, path: str) -> Answer:
        tree = _tree_of(trees, path)
        return problem(error, path) if tree is None else tree.renderer(error, path)

    return render
