"""What every request gets, whoever answers it: an id, a log line, a metric, an audit row, and a catch for our bugs."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from fabricmgr.domain.errors import FabricError
from fabricmgr.metrics import DENIALS, HTTP_REQUESTS, HTTP_SECONDS
from fabricmgr.problems import sentence
from fabricmgr.store.audit_rows import AuditRow
from fabricmgr.web.asgi import App, Message, Receive, Scope, Send
from fabricmgr.web.audit import CHANGES, DENIED, Audit
from fabricmgr.web.responses import Renderer, presentable, send_answer
from fabricmgr.web.who import Principal, Who, source

log = logging.getLogger("fabricmgr.request")

CONTEXT = "fabricmgr"


@dataclass
class Context:
    """What is learnt of a request on its way. route: the path's template, for metrics. counted: one of many in the audit log.

    quiet: nobody reads that it went well."""

    id: str
    source: str
    principal: Principal = field(default_factory=Principal.anonymous)
    route: str = ""
    counted: bool = False
    quiet: bool = False
    reason: str = ""
    status: int = 0
    answered: bool = False


def context(scope: Scope) -> Context:
    """The context of a request that came through the edge."""
    found: Context = scope[CONTEXT]
    return found


async def identify(who: Who, scope: Scope) -> Principal:
    """Find out who asks, and keep it for log and audit. Raises Unauthenticated."""
    principal = await who.identify(scope)
    context(scope).principal = principal
    return principal


@dataclass(frozen=True)
class Edge:
    """The outermost layer around `app`. renderer: by path, for errors that `app` lets through."""

    app: App
    renderer: Renderer
    audit: Audit
    clock: Callable[[], datetime]
    new_id: Callable[[], str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; the lifespan goes to `app` as it is."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = scope[CONTEXT] = Context(self.new_id(), source(scope))
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", seen.id.encode())]
            await send(message)
            seen.answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self.app(scope, receive, watched)
        except FabricError as error:
            await self._refuse(scope, seen, watched, error)
        except Exception:  # our bug: the caller sees the id, the log all of it
            log.exception("request failed", extra={"request": seen.id, "method": scope["method"], "path": scope["path"]})
            await self._refuse(scope, seen, watched, None)
        finally:
            self._note(scope, seen, time.perf_counter() - began)

    async def _refuse(self, scope: Scope, seen: Context, send: Send, error: FabricError | None) -> None:
        if seen.answered:
            return
        seen.reason = "" if error is None else sentence(presentable(error)).replace("\x00", "")
        if seen.status:
            # The answer has begun: cutting it off is the only way left to say that it is not whole.
            raise ConnectionAbortedError
        answer = self.renderer(error, scope["path"])
        await send_answer(send, answer, head=scope["method"] == "HEAD")

    def _note(self, scope: Scope, seen: Context, seconds: float) -> None:
        method, route = scope["method"], seen.route or "other"
        HTTP_REQUESTS.labels(route, method, str(seen.status)).inc()
        HTTP_SECONDS.labels(route).observe(seconds)
        level = logging.ERROR if seen.status >= 500 else logging.DEBUG if seen.quiet and seen.status < 400 else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "request", extra=_fields(scope, seen, seconds))
        if seen.status in DENIED:
            DENIALS.labels("unauthenticated" if seen.status == 401 else "forbidden").inc()
        if seen.status in DENIED or method in CHANGES:
            self._record(scope, seen)

    def _record(self, scope: Scope, seen: Context) -> None:
        row = AuditRow(
            at=self.clock(),
            actor=seen.principal.actor,
            source=seen.source,
            method=scope["method"],
            path=scope["path"][:1000].replace("\x00", ""),
            status=seen.status,
            detail={"request": seen.id, **_means(seen), **({"reason": seen.reason} if seen.reason else {})},
        )
        self.audit.record(row, counted=seen.counted)


def _means(seen: Context) -> dict[str, str]:
    """By which certificate an account came."""
    return {"certificate": seen.principal.certificate} if seen.principal.certificate else {}


def _fields(scope: Scope, seen: Context, seconds: float) -> dict[str, object]:
    fields: dict[str, object] = {
        "request": seen.id,
        "method": scope["method"],
        "path": scope["path"],
        "status": seen.status,
        "actor": seen.principal.actor,
        "source": seen.source,
        "ms": round(seconds * 1000, 2),
        **_means(seen),
    }
    if seen.reason:
        fields["reason"] = seen.reason
    return fields
