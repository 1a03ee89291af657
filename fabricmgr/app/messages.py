"""What the supervisor and its children say to each other: a JSON object a line, orders on stdin, reports on stdout.

Both are pipes, so that either side sees the other's death. Logs go to stderr, which is everybody's.
"""

import msgspec


class Order(msgspec.Struct, tag_field="order", forbid_unknown_fields=True):
    """From the supervisor to a child."""


class Configure(Order, tag="configure"):
    """The first order. arguments: every setting. listen, metrics: inherited listening sockets, by descriptor."""

    name: str
    parent: int
    arguments: list[str]
    listen: int | None = None
    metrics: int | None = None


class Wait(Order, tag="wait"):
    """What stands between now and work, in a sentence."""

    reason: str


class Database(Order, tag="database"):
    """The database answers, or should: get to work."""

    url: str


Orders = Configure | Wait | Database


class Report(msgspec.Struct, tag_field="report", forbid_unknown_fields=True):
    """From a child to the supervisor."""


class Waiting(Report, tag="waiting"):
    """What the child waits for, in a sentence that continues "waiting for"."""

    reason: str


class Prepared(Report, tag="prepared"):
    """The database has our schema, a CA and an administrator. password: where the first one's lies, "" when it was not made now."""

    password: str = ""


class Serving(Report, tag="serving"):
    """The child does its work. http: what it is served with, for people."""

    http: str = ""


class Failed(Report, tag="failed"):
    """The child ends, and starting it again would not help. code: the command's exit code."""

    reason: str
    code: int


Reports = Waiting | Prepared | Serving | Failed

_ORDERS = msgspec.json.Decoder(Orders)
_REPORTS = msgspec.json.Decoder(Reports)


def line(message: Order | Report) -> bytes:
    """As it goes through the pipe."""
    return msgspec.json.encode(message) + b"\n"


def order(text: bytes) -> Orders:
    """Raises msgspec.DecodeError for what is none."""
    found: Orders = _ORDERS.decode(text)
    return found


def report(text: bytes) -> Reports:
    """Raises msgspec.DecodeError for what is none."""
    found: Reports = _REPORTS.decode(text)
    return found
