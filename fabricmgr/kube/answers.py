"""What an API server says when it does not do what was asked: a Status object, by its code."""

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from fabricmgr.domain.errors import (
    ApiAbsent,
    ApiConflict,
    ApiRefused,
    ApiRejected,
    ApiTooMany,
    ApiUnauthorized,
    ApiUnreachable,
    FabricError,
)

LONGEST_REASON = 500  # letters of a server's message that we repeat


class Expired(Exception):
    """The server no longer knows the version or the page that was asked for: list again."""


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, rename="camel"):
    causes: list[_Cause] | None = None
    retry_after_seconds: int = 0


class Status(msgspec.Struct):
    """meta/v1 Status."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None

    @classmethod
    def read(cls, content: bytes | msgspec.Raw) -> "Status":
        """Proxies in between answer with anything: then it is an empty one."""
        try:
            return msgspec.json.decode(content, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return cls()


def refusal(
    code: int, headers: Mapping[str, str], status: Status, server: str, verb: str, resource: str, name: str
) -> FabricError | Expired:
    """The error for an answer that is no success."""
    reason = status.message[:LONGEST_REASON] or f"status {code}"
    if code == 410:
        return Expired()
    if code == 429 or "retry-after" in headers:
        return ApiTooMany(server, _retry_after(headers, status))
    if code == 401:
        return ApiUnauthorized(server)
    if code == 403 and not _terminating(status):
        return ApiRefused(verb, resource, reason)
    if code == 404:
        return ApiAbsent(resource, name)
    if code == 409:
        return ApiConflict(resource, name, reason)
    if 400 <= code < 500:
        return ApiRejected(verb, resource, reason)
    return ApiUnreachable(server, f"it answers {code}: {reason}")


def in_stream(status: Status, server: str, resource: str) -> FabricError | Expired:
    """The same for an ERROR among a watch's events. A server that restarted answers 410 in this way."""
    if status.reason in ("Expired", "Gone"):
        return Expired()
    return refusal(status.code, {}, status, server, "watch", resource, "")


def _terminating(status: Status) -> bool:
    """Nothing is created in a namespace that is being deleted: no lack of rights, though it is answered as one."""
    return any(cause.reason == "NamespaceTerminating" for cause in (status.details and status.details.causes) or ())


def _retry_after(headers: Mapping[str, str], status: Status) -> int:
    """At least 1 s, at most 5 minutes. As a date it is passed over: no API server sends one."""
    seconds = status.details.retry_after_seconds if status.details else 0
    with suppress(ValueError):
        seconds = int(headers.get("retry-after", seconds))
    return min(max(seconds, 1), 300)
