"""Elections of announcers: one look at all addresses of all clusters, and what follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from fabricmgr.domain.election import LAPSE, LOUD_FOR, SETTLED, Field, Stage, Standing, Wish, Word, elect, wish_of
from fabricmgr.domain.events import AddressConflictDetected, DomainEvent, ServiceAddressMoved
from fabricmgr.store import announce_rows
from fabricmgr.store.announce_rows import Picture, Place, Served
from fabricmgr.store.tx import Database, Tx

# Seconds between looks where nothing is due and nothing woke us: nodes become ready or not without a word to us.
PERIOD = 1.0


@dataclass(frozen=True)
class Looked:
    """due: seconds until somebody's silence may count. spoken: addresses that somebody announces, of all."""

    addresses: int
    spoken: int
    changed: int
    due: float


async def look(database: Database, led: float, label: bool = True) -> Looked:
    """led: seconds since we lead. label: whether the label that excludes nodes counts. Raises DatabaseUnavailable."""
    async with database.look() as tx:
        seen = await announce_rows.picture(tx)
    if not seen.standings:
        return Looked(0, 0, 0, PERIOD)
    decisions = {place: (standing, decided(seen, place, led, label)) for place, standing in seen.standings.items()}
    changes = {place: change for place, change in decisions.items() if change[0] != change[1]}
    over = [place for place in seen.standings if place not in seen.wanted and not audible(seen, place)]
    stale = any(lingering(seen, place) for place in seen.words)
    if changes or over or stale:
        await database.run(lambda tx: _write(tx, seen, changes, over))
    spoken = sum(after.state == "speaking" for _, after in decisions.values())
    return Looked(len(decisions), spoken, len(changes), due(seen, led))


def decided(seen: Picture, place: Place, led: float, label: bool) -> Standing:
    served = seen.wanted.get(place)
    wish: Wish | None = None if served is None else wish_of([each.endpoints for each in served])
    return elect(seen.standings[place], wish, seen.words.get(place, {}), Field(seen.nodes.get(place[0], {}), led, label))


def audible(seen: Picture, place: Place) -> bool:
    """Whether a node may still answer for it."""
    return any(word.stage is not Stage.SILENT and _age(seen, place, node, word) < LOUD_FOR for node, word in _words(seen, place).items())


def lingering(seen: Picture, place: Place) -> bool:
    """Whether there are words that say nothing any more."""
    named = seen.standings[place].named if place in seen.standings else frozenset()
    return any(_worn(seen, place, node, word) for node, word in _words(seen, place).items() if node not in named)


def _worn(seen: Picture, place: Place, node: int, word: Word) -> bool:
    age = min(word.told, word.failed) if word.stage is Stage.SILENT else _age(seen, place, node, word)
    return age > LOUD_FOR


def _words(seen: Picture, place: Place) -> Mapping[int, Word]:
    return seen.words.get(place, {})


def _age(seen: Picture, place: Place, node: int, word: Word) -> float:
    known = seen.nodes.get(place[0], {}).get(node)
    return min(word.told, known.beat if known else inf)


def due(seen: Picture, led: float) -> float:
    """When the first of those who announce has been silent for too long, unless it speaks before."""
    waits = [
        LAPSE - age
        for place, standing in seen.standings.items()
        for node in standing.named
        if (age := _age(seen, place, node, _words(seen, place).get(node, Word(told=inf)))) < LAPSE
    ]
    waits += [SETTLED - led] if led < SETTLED else []
    return max(0.0, min([PERIOD, *(each + 0.01 for each in waits)]))


async def _write(tx: Tx, seen: Picture, changes: Mapping[Place, tuple[Standing, Standing]], over: Sequence[Place]) -> None:
    done = await announce_rows.decide(tx, changes) if changes else set()
    told = [(place, node, term) for place in done for node, term in newly(*changes[place])]
    if told or any(changes[place][0].named != changes[place][1].named for place in done):
        await announce_rows.tell(tx, told)
    for place in sorted(done, key=str):
        for event in events(seen, place, *changes[place]):
            tx.emit(event)
    await announce_rows.forget(tx, over)
    await announce_rows.forget_words(tx)


def newly(before: Standing, after: Standing) -> list[tuple[int, int]]:
    """Nodes that had no part in it before, and the term that they are told."""
    terms = {after.successor: after.term + 1, after.holder: after.term}
    return [(node, terms[node]) for node in sorted(after.named - before.named)]


def events(seen: Picture, place: Place, before: Standing, after: Standing) -> list[DomainEvent]:
    """What people are told of a decision: once for each Service that has the address."""
    found: list[DomainEvent] = []
    services: Sequence[Served] = seen.wanted.get(place, ())
    nodes = seen.nodes.get(place[0], {})
    names = {node: nodes[node].name for node in (before.holder, after.holder) if node is not None and node in nodes}
    if after.holder is not None and after.holder != before.holder and after.holder in names:
        new, old = names[after.holder], names.get(before.holder or 0)
        found += [ServiceAddressMoved(each.cluster, each.namespace, each.name, str(after.address), new, old) for each in services]
    if after.conflict and after.conflict != before.conflict:
        by = f", announced by {names[after.holder]}" if after.holder is not None and after.holder in names else ""
        holder = ", ".join(f"{each.namespace}/{each.name}" for each in services)
        found.append(AddressConflictDetected(str(after.address), f"Service {holder}{by}", whose(seen, place, after.conflict)))
    return found


def whose(seen: Picture, place: Place, mac: str) -> str:
    """A MAC, and the node of ours that has it."""
    found = [each.name for each in seen.nodes.get(place[0], {}).values() if mac in each.macs]
    return f"{mac} ({found[0]})" if found else mac
