"""LogServices of a manager: who did what (Audit), and what happened (Events). Append only; every manager shows the same two.

Their entries come in pages of PAGE; what a $filter wants to be equal is looked for in the database."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from fabricmgr import dmtf
from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.events import Event
from fabricmgr.domain.log import Audited, AuditFilter, EventFilter, Severity
from fabricmgr.redfish import messages
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.filter import Scalar
from fabricmgr.redfish.ids import reference
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.redfish.resources.managers import MANAGERS, manager_id, replica_of
from fabricmgr.services import logs
from fabricmgr.store.tx import Tx

PAGE = 100
# What log entries say that are no message of an event: in our own registry.
ANSWERED, RECORDED = "RequestAnswered", "Recorded"
_LARGEST_ID = 2**63 - 1
Equals = Mapping[str, Scalar]
Entry = Audited | Event


class _Nothing(Exception):
    """A $filter names a value that no entry can have."""


@dataclass(frozen=True)
class Log:
    """kind, purpose: as LogService says them. entry_type: of every entry. ids: of a page, under a filter, with the count of all.

    lacks: what entries of other logs have and these do not."""

    name: str
    kind: str
    entry_type: str
    purpose: str
    overwrites: str
    ids: Callable[[Tx, Equals, int, int], Awaitable[tuple[list[int], int]]]
    some: Callable[[Tx, Sequence[int]], Awaitable[Sequence[Entry]]]
    one: Callable[[Tx, int], Awaitable[Entry]]
    lacks: frozenset[str] = frozenset()

    def looked_for(self, equals: Equals) -> Equals:
        """What the database has to look for. Raises _Nothing where no entry can have it."""
        if equals.get("EntryType", self.entry_type) != self.entry_type:
            raise _Nothing
        if any((value is None) is not (name in self.lacks) for name, value in equals.items()):
            raise _Nothing
        return {name: value for name, value in equals.items() if name not in self.lacks}


def _text(equals: Equals, name: str) -> str | None:
    found = equals.get(name)
    if found is not None and not isinstance(found, str):
        raise _Nothing
    return found


def _number(equals: Equals, name: str) -> int | None:
    text = _text(equals, name)
    return None if text is None else _id(text, _Nothing())


def _time(equals: Equals, name: str) -> datetime | None:
    """As the page writes it: anything else is another text."""
    text = _text(equals, name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _Nothing from None
    if found.tzinfo is None or found.isoformat() != text:
        raise _Nothing
    return found


def _severity(equals: Equals) -> Severity | None:
    text = _text(equals, "Severity")
    if text is None:
        return None
    try:
        return Severity(text)
    except ValueError:
        raise _Nothing from None


async def _audit_ids(tx: Tx, equals: Equals, skip: int, limit: int) -> tuple[list[int], int]:
    wanted = AuditFilter(
        _number(equals, "Id"), _time(equals, "Created"), _text(equals, "Username"), _text(equals, "Originator"), _severity(equals)
    )
    return await logs.audited(tx, wanted, skip, limit)


async def _event_ids(tx: Tx, equals: Equals, skip: int, limit: int) -> tuple[list[int], int]:
    severity = _severity(equals)
    wanted = EventFilter(_number(equals, "Id"), _time(equals, "Created"), severity, _severities())
    return await logs.happened(tx, wanted, skip, limit)


@cache
def _severities() -> Mapping[str, Severity]:
    """Of each event's message."""
    return {what: Severity(messages.severity_of(rows[0])) for what, rows in messages.ROWS.items() if rows}


LOGS: Mapping[str, Log] = {
    "Audit": Log(
        "Who changed what, and who was denied",
        "OEM",
        "Oem",
        "Security",
        "NeverOverWrites",
        _audit_ids,
        logs.audit_entries,
        logs.audit_entry,
    ),
    "Events": Log(
        "What happened",
        "Event",
        "Event",
        "Operations",
        "WrapsWhenFull",
        _event_ids,
        logs.events,
        logs.event,
        frozenset({"Username", "Originator"}),
    ),
}


@dataclass(frozen=True)
class Service:
    """A log of a manager."""

    manager: str
    id: str

    @property
    def log(self) -> Log:
        return LOGS[self.id]


async def get_service(ask: Ask) -> Service:
    if ask.params["log_id"] not in LOGS:
        raise NotFound("log", ask.params["log_id"])
    async with ask.database.read() as tx:
        return Service(str((await replica_of(tx, ask)).id), ask.params["log_id"])


async def services(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        await replica_of(tx, ask)
    return list(LOGS)[skip:][:top], len(LOGS)


def service_body(service: Service) -> Json:
    log = service.log
    return {
        "Id": service.id,
        "Name": log.name,
        "ServiceEnabled": True,
        "Status": {"State": "Enabled", "Health": "OK"},
        "LogEntryType": log.kind,
        "LogPurposes": [log.purpose],
        "OverWritePolicy": log.overwrites,
        "Entries": reference(f"{MANAGERS}/{service.manager}/LogServices/{service.id}/Entries"),
    }


# --- entries ---------------------------------------------------------------------------------------------------------


async def _log_of(tx: Tx, ask: Ask) -> Log:
    manager_id(ask.params["manager_id"])
    await replica_of(tx, ask)
    if ask.params["log_id"] not in LOGS:
        raise NotFound("log", ask.params["log_id"])
    return LOGS[ask.params["log_id"]]


def _id(text: str, otherwise: Exception) -> int:
    if not (text.isascii() and text.isdigit() and str(int(text)) == text and int(text) <= _LARGEST_ID):
        raise otherwise
    return int(text)


async def get(ask: Ask) -> Entry:
    text = ask.params["entry_id"]
    async with ask.database.read() as tx:
        log = await _log_of(tx, ask)
        return await log.one(tx, _id(text, NotFound("log entry", text)))


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        log = await _log_of(tx, ask)
        try:
            found, total = await log.ids(tx, log.looked_for(ask.equals), min(skip, _LARGEST_ID), PAGE if top is None else top)
        except _Nothing:
            return [], 0
    return [str(each) for each in found], total


async def load(ask: Ask, ids: Sequence[str]) -> Sequence[Entry | None]:
    async with ask.database.read() as tx:
        log = await _log_of(tx, ask)
        found = {_number_of(each): each for each in await log.some(tx, [int(each) for each in ids])}
    return [found.get(int(each)) for each in ids]


def _number_of(entry: Entry) -> int:
    return entry.id if isinstance(entry, Audited) else entry.position


def body(entry: Entry) -> Json:
    return _audited(entry) if isinstance(entry, Audited) else _happened(entry)


def _audited(entry: Audited) -> Json:
    """Who, from where, what, and how it ended."""
    times = f", {entry.repeated} times" if entry.repeated > 1 else ""
    reason = f" ({entry.reason})" if entry.reason else ""
    by = f" by certificate {entry.certificate}" if entry.certificate else ""
    return {
        "Id": str(entry.id),
        "Name": f"Audit entry {entry.id}",
        "EntryType": "Oem",
        "OemRecordFormat": "fabricmgr audit",
        "Created": entry.at.isoformat(),
        "Severity": entry.severity.value,
        "MessageId": dmtf.message_id(dmtf.OWN_REGISTRY, ANSWERED),
        "Message": f"{entry.actor}{by} from {entry.source}: {entry.method} {entry.path} was answered with {entry.status}{times}{reason}",
        "MessageArgs": [entry.actor, entry.source, entry.method, entry.path, str(entry.status), str(entry.repeated)],
        "Username": entry.actor,
        "Originator": entry.source,
        "OriginatorType": "Client",
    }


def _happened(event: Event) -> Json:
    page: Json = {
        "Id": str(event.position),
        "Name": f"Event {event.position}",
        "EntryType": "Event",
        "Created": event.at.isoformat(),
        "EventTimestamp": event.at.isoformat(),
    }
    told = messages.messages_of(event)
    if not told:
        named = {"MessageId": dmtf.message_id(dmtf.OWN_REGISTRY, RECORDED), "Message": event.what, "MessageArgs": [event.what]}
        return {**page, "Severity": Severity.OK.value, **named}
    first = told[0]
    return {
        **page,
        "EventId": first.id,
        "Severity": first.severity,
        "MessageId": first.message_id,
        "Message": first.text,
        "MessageArgs": list(first.args),
        "Resolution": first.resolution,
        "OriginatorType": "Internal",
    }


log_service = Resource(
    schema="LogService",
    uri="/redfish/v1/Managers/{manager_id}/LogServices/{log_id}",
    get=get_service,
    body=service_body,
    members=services,
    collection_name="Logs",
)
log_entry = Resource(
    schema="LogEntry",
    uri="/redfish/v1/Managers/{manager_id}/LogServices/{log_id}/Entries/{entry_id}",
    get=get,
    body=body,
    members=members,
    load=load,
    page_size=PAGE,
    expanded=True,
    filters=frozenset({"Id", "EntryType", "Severity", "Created", "Username", "Originator"}),
    collection_name="Log entries",
)
