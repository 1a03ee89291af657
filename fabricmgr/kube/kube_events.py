"""Events that `kubectl describe` shows at an object. Equal ones are one Event that counts, also across our restarts.

Kept as core/v1 Events: those have the count that people see. The name of an Event follows from what it says, so that a manager that knows
nothing of it meets it by its name. Rights needed: create and patch on events.
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fabricmgr.domain.errors import ApiAbsent, ApiConflict, FabricError
from fabricmgr.kube.client import Client
from fabricmgr.kube.objects import Kind, View
from fabricmgr.kube.write import timestamp
from fabricmgr.problems import sentence

log = logging.getLogger(__name__)

LONGEST_MESSAGE = 1024  # letters that core/v1 takes
REMEMBERED = 2000  # Events whose count is known without asking


class Counted(View, frozen=True):
    """An Event, of which the count alone is read."""

    count: int = 0


EVENTS = Kind("Event", "", "v1", "events", True, Counted)


class KubeEvents:
    """component, instance: who says it, as in `kubectl describe`'s column From."""

    def __init__(self, client: Client, instance: str, clock: Callable[[], datetime], component: str = "fabricmgr"):
        self._client = client
        self._source = {"component": component, "host": instance}
        self._clock = clock
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def say(self, kind: Kind[Any], about: View, reason: str, message: str, *, warning: bool = False) -> bool:
        """reason: one word in CamelCase; message: a sentence for people. False: it could not be written, which stops nothing: the
        namespace is being deleted, a right is missing, the server is away."""
        message = message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 3] + "..."
        key = (about.namespace or "default", _name(about, reason, message, warning))
        try:
            self._counts[key] = await self._said(key, kind, about, reason, message, warning)
        except FabricError as error:
            log.info("event not written", extra={"reason": reason, "object": about.name, "outcome": sentence(error)})
            return False
        self._counts.move_to_end(key)
        while len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)
        return True

    async def _said(self, key: tuple[str, str], kind: Kind[Any], about: View, reason: str, message: str, warning: bool) -> int:
        """How often it was said by now."""
        if key in self._counts:
            try:
                return await self._again(key, self._counts[key] + 1)
            except ApiAbsent:
                del self._counts[key]  # an API server forgets Events after an hour
        try:
            made = await self._client.create(EVENTS, key[0], self._body(key, kind, about, reason, message, warning))
        except ApiConflict:
            return await self._met(key)
        return made.count

    async def _met(self, key: tuple[str, str]) -> int:
        """One that is there from before our start: changing it tells its count."""
        found = await self._client.merge(EVENTS, *key, {"lastTimestamp": timestamp(self._clock())})
        return await self._again(key, found.count + 1)

    async def _again(self, key: tuple[str, str], count: int) -> int:
        return (await self._client.merge(EVENTS, *key, {"count": count, "lastTimestamp": timestamp(self._clock())})).count

    def _body(self, key: tuple[str, str], kind: Kind[Any], about: View, reason: str, message: str, warning: bool) -> Mapping[str, Any]:
        now = timestamp(self._clock())
        return {
            "metadata": {"namespace": key[0], "name": key[1]},
            "involvedObject": {
                "apiVersion": kind.api_version,
                "kind": kind.name,
                "name": about.name,
                "uid": about.uid,
                **({"namespace": about.namespace} if about.namespace else {}),
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source["host"],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


def _name(about: View, reason: str, message: str, warning: bool) -> str:
    """A DNS subdomain name (RFC 1123), at most 253 letters."""
    said = "\0".join((about.uid, reason, message, str(warning)))
    return f"{about.name[:230]}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
