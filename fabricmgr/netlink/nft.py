"""nftables over netlink: a table as a value, written in one transaction, read back and compared (linux/netfilter/nf_tables.h).

No process is started: `nft` would parse text, and `iptables` would take a lock that every other user of it waits for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import ENOENT
from struct import Struct

from fabricmgr.domain.errors import KernelRefused
from fabricmgr.netlink.codec import Flag, attr, attributes, be32, message, nest, string, text, walk
from fabricmgr.netlink.sockets import NetlinkSocket, Reply

INET, IPV4, IPV6, BRIDGE, ANY = 1, 2, 10, 7, 0
FAMILY_NAMES = {INET: "inet", IPV4: "ip", IPV6: "ip6", BRIDGE: "bridge"}
PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4
DROP, ACCEPT = 0, 1

_HEADER = Struct(">BBH")  # family, version, resource
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEW_TABLE, _GET_TABLE, _DEL_TABLE = 0, 1, 2
_NEW_CHAIN, _GET_CHAIN = 3, 4
_NEW_RULE, _GET_RULE, _DEL_RULE = 6, 7, 8
_NEW_SET, _GET_SET = 9, 10
_NEW_ELEMENTS, _GET_ELEMENTS, _DEL_ELEMENTS = 12, 13, 14
_SET_INTERVAL = 4
_INTERVAL_END = 1
# What `nft` calls ifname; it shows such a set rightly only with a note of the byte order: kind, length, value.
NAME_TYPE = 41
_NAMES_IN_HOST_ORDER = bytes((0, 4)) + Struct("=I").pack(1)
_COMMENT = 0
# An attribute's length has 16 bits: elements of a large set are sent in several messages.
_ELEMENTS_A_MESSAGE = 400

Element = tuple[bytes, bool]
"""Key of a set's element, and whether it ends an interval (the first address behind it)."""
Expression = tuple[str, tuple[tuple[int, bytes], ...]]
"""Name and attributes, as they are sent."""
Rule = tuple[Expression, ...]


@dataclass(frozen=True)
class Chain:
    """A base chain with policy accept: a policy of drop is final for everybody's packets, so we have none."""

    name: str
    kind: str
    hook: int
    priority: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Set:
    """key_type: how `nft` shows it. key_length: bytes."""

    name: str
    key_type: int
    key_length: int
    interval: bool
    elements: frozenset[Element]


@dataclass(frozen=True)
class Table:
    family: int
    name: str
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]


@dataclass(frozen=True)
class SeenRule:
    handle: int
    rule: Rule
    comment: str


@dataclass(frozen=True)
class SeenChain:
    """A chain of anybody. policy: DROP or ACCEPT; hook: -1 where it is no base chain."""

    family: int
    table: str
    name: str
    kind: str
    hook: int
    priority: int
    policy: int


# --- writing ---------------------------------------------------------------------------------------------------------------


def write(sock: NetlinkSocket, table: Table) -> None:
    """Put the table in the place of what bears its name, in one transaction. Raises KernelRefused."""
    messages = [_table(table, _NEW_TABLE), _table(table, _DEL_TABLE), _table(table, _NEW_TABLE)]
    for number, each in enumerate(table.sets, 1):
        messages.append(_set(table, each, number))
        messages += elements_messages(table.family, table.name, each.name, sorted(each.elements))
    messages += [_chain(table, chain) for chain in table.chains]
    messages += [_rule(table.family, table.name, chain.name, rule) for chain in table.chains for rule in chain.rules]
    commit(sock, messages, f"write nftables table {FAMILY_NAMES[table.family]} {table.name}")


def delete(sock: NetlinkSocket, family: int, name: str) -> bool:
    """Delete a table; False when there was none. Raises KernelRefused."""
    empty = Table(family, name, (), ())
    try:
        commit(sock, [_table(empty, _DEL_TABLE)], f"delete nftables table {name}")
    except KernelRefused as refused:
        if refused.errno == ENOENT:
            return False
        raise
    return True


def commit(sock: NetlinkSocket, messages: Sequence[bytearray], step: str) -> None:
    """Send messages as one transaction. Raises KernelRefused: then nothing has changed."""
    frame = _HEADER.pack(0, 0, _SUBSYSTEM)
    sock.transact([message(_BATCH_BEGIN, 0, frame), *messages, message(_BATCH_END, 0, frame)], step)


def elements_messages(family: int, table: str, name: str, elements: Sequence[Element], remove: bool = False) -> list[bytearray]:
    """Messages that add elements to a set, or take them out of it."""
    kind, flags = (_DEL_ELEMENTS, 0) if remove else (_NEW_ELEMENTS, Flag.CREATE)
    made = []
    for at in range(0, len(elements), _ELEMENTS_A_MESSAGE):
        nested = [_element(number, element) for number, element in enumerate(elements[at : at + _ELEMENTS_A_MESSAGE], 1)]
        made.append(_request(kind, flags, family, text(1, table), text(2, name), nest(3, *nested)))
    return made


def insert_rule(sock: NetlinkSocket, chain: SeenChain, rules: Iterable[Rule], comment: str) -> None:
    """Put rules at the head of somebody else's chain, each with our comment. Raises KernelRefused."""
    messages = [_rule(chain.family, chain.table, chain.name, rule, comment, Flag.CREATE) for rule in rules]
    commit(sock, messages, f"insert rules into {chain.table} {chain.name}")


def delete_rules(sock: NetlinkSocket, chain: SeenChain, handles: Iterable[int]) -> None:
    """Delete rules of a chain by their handles. Raises KernelRefused."""
    where = text(1, chain.table) + text(2, chain.name)
    messages = [_request(_DEL_RULE, 0, chain.family, where, attr(3, handle.to_bytes(8, "big"))) for handle in handles]
    commit(sock, messages, f"delete rules from {chain.table} {chain.name}")


def _request(kind: int, flags: int, family: int, *attrs: bytes) -> bytearray:
    return message(_SUBSYSTEM << 8 | kind, flags, _HEADER.pack(family, 0, 0) + b"".join(attrs))


def _table(table: Table, kind: int) -> bytearray:
    return _request(kind, 0 if kind == _DEL_TABLE else Flag.CREATE, table.family, text(1, table.name))


def _set(table: Table, each: Set, number: int) -> bytearray:
    flags = be32(3, _SET_INTERVAL if each.interval else 0)
    key = be32(4, each.key_type) + be32(5, each.key_length)
    names = text(1, table.name) + text(2, each.name)
    order = attr(13, _NAMES_IN_HOST_ORDER) if each.key_type == NAME_TYPE else b""
    return _request(_NEW_SET, Flag.CREATE, table.family, names, flags, key, be32(10, number), order)


def _element(number: int, element: Element) -> bytes:
    key, end = element
    return nest(number, nest(1, attr(1, key)), be32(3, _INTERVAL_END) if end else b"")


def _chain(table: Table, chain: Chain) -> bytearray:
    hook = nest(4, be32(1, chain.hook), attr(2, chain.priority.to_bytes(4, "big", signed=True)))
    names = text(1, table.name) + text(3, chain.name)
    return _request(_NEW_CHAIN, Flag.CREATE, table.family, names, hook, be32(5, ACCEPT), text(7, chain.kind))


def _rule(family: int, table: str, chain: str, rule: Rule, comment: str = "", flags: int = Flag.CREATE | Flag.APPEND) -> bytearray:
    expressions = [nest(1, text(1, name), nest(2, *(attr(kind, value) for kind, value in attrs))) for name, attrs in rule]
    said = comment.encode() + b"\0"
    userdata = attr(7, bytes((_COMMENT, len(said))) + said) if comment else b""
    return _request(_NEW_RULE, flags, family, text(1, table), text(2, chain), nest(4, *expressions), userdata)


# --- reading ---------------------------------------------------------------------------------------------------------------


def difference(sock: NetlinkSocket, table: Table) -> str:
    """What is otherwise than it should be, in words; empty when nothing is. Raises KernelRefused."""
    name = f"nftables table {FAMILY_NAMES[table.family]} {table.name}"
    if table.name not in tables(sock, table.family):
        return f"{name} is missing"
    there = {chain.name: chain for chain in chains(sock, table.family) if chain.table == table.name}
    for chain in table.chains:
        if said := _chain_difference(sock, there.get(chain.name), chain):
            return f"chain {chain.name} of {name} {said}"
    for each in table.sets:
        if _elements(sock, table, each.name) != each.elements:
            return f"set {each.name} of {name} differs"
    return ""


def tables(sock: NetlinkSocket, family: int) -> set[str]:
    """Names of the tables of a family. Raises KernelRefused."""
    replies = sock.dump(_request(_GET_TABLE, Flag.DUMP, family), "list nftables tables")
    return {string(attributes(body, _HEADER.size).get(1)) for _, body in replies}


def chains(sock: NetlinkSocket, family: int = ANY) -> list[SeenChain]:
    """All chains of a family, or of every one. Raises KernelRefused."""
    return [_seen_chain(body) for _, body in sock.dump(_request(_GET_CHAIN, Flag.DUMP, family), "list nftables chains")]


def rules(sock: NetlinkSocket, chain: SeenChain) -> list[SeenRule]:
    """Rules of a chain in order. Raises KernelRefused."""
    where = text(1, chain.table) + text(2, chain.name)
    replies = sock.dump(_request(_GET_RULE, Flag.DUMP, chain.family, where), "list nftables rules")
    seen = [(attributes(body, _HEADER.size), body) for _, body in replies]
    return [_seen_rule(found) for found, _ in seen if string(found.get(1)) == chain.table and string(found.get(2)) == chain.name]


def elements(sock: NetlinkSocket, family: int, table: str, name: str) -> frozenset[Element] | None:
    """Elements of a set, None when there is no such set. Raises KernelRefused."""
    request = _request(_GET_ELEMENTS, Flag.DUMP, family, text(1, table), text(2, name))
    try:
        replies = sock.dump(request, f"list nftables set {name}")
    except KernelRefused as refused:
        if refused.errno == ENOENT:
            return None
        raise
    return frozenset(element for reply in replies for element in _seen_elements(reply))


def holds(sock: NetlinkSocket, family: int, table: str, name: str, asked: Sequence[Element]) -> bool:
    """Whether a set has all of these elements, without reading the others. Raises KernelRefused."""
    nested = [_element(number, element) for number, element in enumerate(asked, 1)]
    request = _request(_GET_ELEMENTS, 0, family, text(1, table), text(2, name), nest(3, *nested))
    try:
        sock.exchange([request], [f"look into nftables set {name}"])
    except KernelRefused as refused:
        if refused.errno == ENOENT:
            return False
        raise
    return True


def _elements(sock: NetlinkSocket, table: Table, name: str) -> frozenset[Element] | None:
    return elements(sock, table.family, table.name, name)


def _seen_elements(reply: Reply) -> list[Element]:
    listed = attributes(reply[1], _HEADER.size).get(3, b"")
    found = [attributes(value) for _, value in walk(listed)]
    return [(attributes(each[1])[1], bool(int.from_bytes(each.get(3, b""), "big") & _INTERVAL_END)) for each in found]


def _seen_chain(body: bytes) -> SeenChain:
    found = attributes(body, _HEADER.size)
    hook = attributes(found[4]) if 4 in found else {}
    return SeenChain(
        family=body[0],
        table=string(found.get(1)),
        name=string(found.get(3)),
        kind=string(found.get(7)),
        hook=int.from_bytes(hook[1], "big") if 1 in hook else -1,
        priority=int.from_bytes(hook.get(2, b""), "big", signed=True),
        policy=int.from_bytes(found.get(5, b"\1"), "big"),
    )


def _seen_rule(found: dict[int, bytes]) -> SeenRule:
    notes = found.get(7, b"")
    comment = string(notes[2 : 2 + notes[1]]) if len(notes) > 2 and notes[0] == _COMMENT else ""
    return SeenRule(int.from_bytes(found.get(3, b""), "big"), parse_rule(found.get(4, b"")), comment)


def parse_rule(nested: bytes) -> Rule:
    """Expressions as the kernel lists them."""
    listed = [attributes(value) for _, value in walk(nested)]
    return tuple((string(each.get(1)), tuple(walk(each.get(2, b"")))) for each in listed)


def verdict_of(expression: Expression) -> int | None:
    """DROP, ACCEPT or another code of an immediate verdict; None for any other expression."""
    name, attrs = expression
    data = attributes(dict(attrs).get(2, b"")) if name == "immediate" else {}
    return int.from_bytes(attributes(data[2])[1], "big", signed=True) if 2 in data else None


def essence(rule: Rule) -> tuple[tuple[str, object], ...]:
    """What a rule does, without counters, registers, and the padding that some programs give a name and others do not."""
    return tuple((name, _core(name, dict(attrs))) for name, attrs in rule if name != "counter")


def _core(name: str, attrs: dict[int, bytes]) -> object:
    if name == "meta":
        return attrs.get(2)
    if name == "cmp":
        return attrs.get(2), attributes(attrs[3]).get(1, b"").rstrip(b"\0")
    return verdict_of((name, tuple(attrs.items()))) if name == "immediate" else frozenset(attrs.items())


def _chain_difference(sock: NetlinkSocket, there: SeenChain | None, chain: Chain) -> str:
    if there is None:
        return "is missing"
    if (there.kind, there.hook, there.priority, there.policy) != (chain.kind, chain.hook, chain.priority, ACCEPT):
        return "hangs on another hook"
    seen = [each.rule for each in rules(sock, there)]
    same = len(seen) == len(chain.rules) and all(_covers(a, b) for a, b in zip(seen, chain.rules, strict=True))
    return "" if same else "has other rules"


def _covers(seen: Rule, asked: Rule) -> bool:
    """The kernel lists some attributes that were not sent, at their defaults."""
    return len(seen) == len(asked) and all(
        a[0] == b[0] and {(kind, _plain(value)) for kind, value in b[1]} <= {(kind, _plain(value)) for kind, value in a[1]}
        for a, b in zip(seen, asked, strict=True)
    )


def _plain(value: bytes) -> bytes:
    """A value without the nesting flag, which some kernels set in their lists and others do not."""
    return value[:3] + bytes((value[3] & 0x3F,)) + value[4:] if len(value) > 4 else value
