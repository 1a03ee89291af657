"""A problem as a response. One form for /v1; whoever owns another tree of paths brings its own renderer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import msgspec

from fabricmgr.domain.errors import Busy, FabricError, Invalid, MethodNotAllowed, NotInList, QueryInvalid, WrongType
from fabricmgr.problems import BUG, Kind, problem_of
from fabricmgr.web.asgi import Send

Headers = tuple[tuple[bytes, bytes], ...]
# Long enough to see what was wrong, too short to be a mirror.
LONGEST_SHOWN = 200
_SECRET_FIELDS = ("password", "token", "secret", "proof", "key")


@dataclass(frozen=True)
class Answer:
    """A whole response. Content-Length and X-Request-Id are added when it is sent."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    media_type: str = "application/json"


Renderer = Callable[[FabricError | None, str], Answer]
"""Makes an error (None: a bug of ours) of a request for a path into a response."""


def encode(value: object) -> bytes:
    """JSON as every edge writes it: addresses, networks and ids as text, times in RFC 3339, durations in ISO 8601."""
    return msgspec.json.encode(value, enc_hook=str)


def ok(value: object, status: int = 200, headers: Headers = ()) -> Answer:
    """A JSON answer."""
    return Answer(status, encode(value), headers)


def problem(error: FabricError | None, path: str = "") -> Answer:
    """An error as /v1 says it: {"error": {"code", "message", "fields"}}."""
    del path
    if error is None:
        return ok({"error": {"code": "InternalError", "message": BUG.text, "fields": {}}}, BUG.http)
    error = presentable(error)
    row = problem_of(error)
    told = {"code": type(error).__name__, "message": row.say(error), "fields": vars(error)}
    return ok({"error": told}, row.http, problem_headers(error))


def problem_headers(error: FabricError) -> Headers:
    """What HTTP wants beside the body: Allow, Retry-After, WWW-Authenticate (RFC 9110, sections 10.2.1, 10.2.3, 11.6.1)."""
    row = problem_of(error)
    if isinstance(error, MethodNotAllowed):
        return ((b"allow", error.allowed.encode()),)
    if row.http == 401:
        return ((b"www-authenticate", b'Basic realm="fabricmgr"'),)
    if row.http == 503 and row.kind is Kind.TRANSIENT:
        seconds = error.retry_after_seconds if isinstance(error, Busy) else 1
        return ((b"retry-after", str(seconds).encode()),)
    return ()


def presentable(error: FabricError) -> FabricError:
    """The same error without what must not be shown: values of secret fields, and more of a value than helps."""
    if isinstance(error, Invalid | WrongType | NotInList) and any(word in error.field.lower() for word in _SECRET_FIELDS):
        return replace(error, value="(not shown)")
    if isinstance(error, Invalid | WrongType | NotInList | QueryInvalid) and len(repr(error.value)) > LONGEST_SHOWN:
        return replace(error, value=f"{str(error.value)[:LONGEST_SHOWN]}...")
    return error


async def send_answer(send: Send, answer: Answer, *, head: bool = False, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a whole response; for HEAD all but the body."""
    headers = [*answer.headers, *more]
    if answer.status not in (204, 304):
        headers += [(b"content-type", answer.media_type.encode()), (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
