"""Which node announces the address of a Service: decided from what the nodes are and what they said, and from nothing else.

The holder is named as long as it may and does speak; nothing moves an address that is well where it is. A holder that says it cannot, or
may no more, is followed at once. One that is not heard may be cut off from us and speak all the same: then a successor is named that asks
the wire first, and the holder stays named until the successor speaks, which it does only when nobody answers.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from math import inf

from fabricmgr.domain.addresses import Address, Prefix

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"  # label of a Node; its presence counts, not its value
OFF_SEGMENT = "no node has a link that is up with an address on its segment"  # as where routers lead to it
LAPSE = 1.2  # seconds without a word after which a holder counts as silent
# A manager that has just begun to lead has heard nobody yet, and the agents need as long to find it again.
SETTLED = 5.0
# So long, a node that could not announce an address is asked last.
FAILED_FOR = 10.0
# So long after its last word a node may have spoken on; who asks the wire before speaking hears it then.
LOUD_FOR = 10.0


class Stage(Enum):
    """What a node last said of an address. told: it was told to announce it and has said nothing yet. silent: it cannot, or it let go."""

    TOLD = "told"
    PROBING = "probing"
    SPEAKING = "speaking"
    SILENT = "silent"


@dataclass(frozen=True)
class Word:
    """told, failed: seconds since it was told to announce, and since it could not. conflict: MAC of who else answers."""

    stage: Stage = Stage.TOLD
    term: int = 0
    conflict: str = ""
    reason: str = ""
    told: float = 0.0
    failed: float = inf


@dataclass(frozen=True)
class Candidate:
    """A node. kube: its name at the API server. beat: seconds since it last said what it announces. faulty: pods' packets are lost there.

    segments: prefixes on its links that are up."""

    id: int
    name: str
    kube: str
    segments: tuple[Prefix, ...] = ()
    macs: frozenset[str] = frozenset()
    alive: bool = True
    ready: bool = True
    faulty: bool = False
    excluded: bool = False
    beat: float = inf


@dataclass(frozen=True)
class Wish:
    """Who may announce. endpoints: where externalTrafficPolicy is Local, the Nodes that have ready ones; None: any Node."""

    endpoints: frozenset[str] | None = None


@dataclass(frozen=True)
class Standing:
    """An address, and what was decided last. state: unassigned, probing or speaking. conflict: MAC of who else was heard.

    reason: why it is not announced as it should be, for people."""

    address: Address
    term: int = 0
    holder: int | None = None
    successor: int | None = None
    state: str = "unassigned"
    conflict: str = ""
    reason: str = ""

    def held_by(self, node: int | None) -> "Standing":
        return self if node == self.holder else replace(self, holder=node, successor=None, term=self.term + 1)

    @property
    def named(self) -> frozenset[int]:
        """Nodes that are to announce it now."""
        return frozenset(each for each in (self.holder, self.successor) if each is not None)


@dataclass(frozen=True)
class Field:
    """The nodes of a cluster. led: seconds since we lead. label: whether the label that excludes nodes counts."""

    nodes: Mapping[int, Candidate]
    led: float
    label: bool = True


@dataclass(frozen=True)
class Race:
    """One address among the nodes. words: by node."""

    now: Standing
    words: Mapping[int, Word] = field(default_factory=dict)
    fit: Sequence[Candidate] = ()

    def word(self, node: int | None) -> Word:
        return Word(told=inf) if node is None else self.words.get(node, Word(told=inf))

    def failing(self, node: Candidate) -> bool:
        word = self.word(node.id)
        return word.failed < FAILED_FOR or (node.id in self.now.named and word.stage is Stage.SILENT)

    def unheard(self, node: Candidate) -> bool:
        """It was told to announce this and says nothing of it. One that let go of it need not say anything."""
        word = self.words.get(node.id)
        concerned = word is not None and (word.stage is not Stage.SILENT or node.id in self.now.named)
        return concerned and min(self.word(node.id).told, node.beat) > LAPSE

    def best(self, but: int | None = None) -> Candidate | None:
        """Who comes first, of those that could: each address has its own order, so that addresses spread over the nodes."""
        found = [each for each in self.fit if each.id != but and not self.failing(each) and not self.unheard(each)]
        return min(found, key=lambda each: (*worse(each), not each.alive, spread(self.now.address, each.name)), default=None)


def elect(now: Standing, wish: Wish | None, words: Mapping[int, Word], field: Field) -> Standing:
    """The next decision. wish: None where nobody wants it announced any more."""
    if wish is None:
        return replace(now.held_by(None), state="unassigned", conflict="", reason="")
    if not well(now, wish, words, field):
        return weighed(now, wish, words, field)
    conflict = _conflict(now, words, field)
    same = (now.state, now.conflict, now.reason) == ("speaking", conflict, "")
    return now if same else replace(now, state="speaking", conflict=conflict, reason="")


def well(now: Standing, wish: Wish, words: Mapping[int, Word], field: Field) -> bool:
    """Whether its holder speaks, is heard, may, and no node could be better. So it is with nearly all addresses nearly always: to weigh
    all nodes for each of thousands of addresses at every look would take most of a processor."""
    holder, word = field.nodes.get(now.holder or 0), words.get(now.holder or 0)
    if holder is None or word is None or now.successor is not None or worse(holder) != (False, False):
        return False
    heard = word.stage is Stage.SPEAKING and word.failed >= FAILED_FOR and min(word.told, holder.beat) <= LAPSE
    return heard and _near(now.address, holder) and _open(holder, field) and (wish.endpoints is None or holder.kube in wish.endpoints)


def weighed(now: Standing, wish: Wish, words: Mapping[int, Word], field: Field) -> Standing:
    """The next decision, all nodes considered."""
    fit, missing = fit_for(now.address, wish, field)
    found = _elected(Race(now, words, fit), field)
    state = {Stage.SPEAKING: "speaking"}.get(_word(words, found.holder).stage, "probing") if found.holder is not None else "unassigned"
    return _explained(replace(found, state=state, conflict=_conflict(found, words, field)), words, field, missing)


def _elected(race: Race, field: Field) -> Standing:
    now, holder = race.now, field.nodes.get(race.now.holder or 0)
    if holder is None or (holder not in race.fit and not _silent(race, holder, field)):
        best = race.best() or next(iter(race.fit), None)
        return now.held_by(best.id if best else None)
    if _silent(race, holder, field):
        return _without_word(race, holder)
    return _with_word(race, holder)


def _silent(race: Race, holder: Candidate, field: Field) -> bool:
    return field.led > SETTLED and race.unheard(holder)


def _without_word(race: Race, holder: Candidate) -> Standing:
    """It may speak on. Whoever is named besides says whether it does."""
    now = race.now
    named = next((each for each in race.fit if each.id == now.successor), None)
    if named is not None and not race.failing(named) and not race.unheard(named):
        return now.held_by(named.id) if _speaks(race, named.id) else now
    other = race.best(but=holder.id)
    return replace(now, successor=other.id if other else None)


def _with_word(race: Race, holder: Candidate) -> Standing:
    now, word = race.now, race.word(holder.id)
    if now.successor is not None and _speaks(race, now.successor) and word.stage is not Stage.SPEAKING:
        return now.held_by(now.successor)
    alone = replace(now, successor=None)
    other = race.best(but=holder.id)
    if other is not None and (race.failing(holder) or worse(other) < worse(holder)):
        return alone.held_by(other.id)
    return alone


def _speaks(race: Race, successor: int) -> bool:
    word = race.word(successor)
    return word.stage is Stage.SPEAKING and word.term > race.now.term


def worse(node: Candidate) -> tuple[bool, bool]:
    """What moves an address away where another node is better."""
    return not node.ready, node.faulty


def spread(address: Address, name: str) -> bytes:
    """Rendezvous hashing: each address has an order of the nodes, and one that goes changes nothing for the others' addresses."""
    return hashlib.sha256(f"{address} {name}".encode()).digest()


# --- who may -----------------------------------------------------------------------------------------------------------------


def fit_for(address: Address, wish: Wish, field: Field) -> tuple[list[Candidate], str]:
    """Nodes that may announce it, and where there are none, why."""
    near = [each for each in field.nodes.values() if _near(address, each)]
    if not near:
        return [], OFF_SEGMENT
    open_to = [each for each in near if _open(each, field)]
    if not open_to:
        return [], f"every node on its segment is excluded by the label {EXCLUDED}"
    if wish.endpoints is None:
        return open_to, ""
    serving = [each for each in open_to if each.kube in wish.endpoints]
    return serving, "" if serving else "externalTrafficPolicy is Local, and no node that may announce it has a ready endpoint"


def _near(address: Address, node: Candidate) -> bool:
    return any(address in segment for segment in node.segments)


def _open(node: Candidate, field: Field) -> bool:
    return not (field.label and node.excluded)


def wish_of(places: Iterable[frozenset[str] | None]) -> Wish:
    """Of all Services that share an address: nodes that serve all of them, else some of them."""
    local = [each for each in places if each is not None]
    if not local:
        return Wish()
    every = frozenset.intersection(*local)
    return Wish(every or frozenset.union(*local))


# --- what is said of it ------------------------------------------------------------------------------------------------------


def _word(words: Mapping[int, Word], node: int | None) -> Word:
    return Word() if node is None else words.get(node, Word())


def _conflict(found: Standing, words: Mapping[int, Word], field: Field) -> str:
    """Nodes that have a part in announcing it answer for it by right, if not for long."""
    heard = [mac for node in (found.holder, found.successor) if (mac := _word(words, node).conflict)]
    if not heard:
        return ""
    parts = [each for each, word in words.items() if word.stage is not Stage.SILENT and each in field.nodes]
    ours = {mac for node in parts for mac in field.nodes[node].macs}
    return next((mac for mac in heard if mac not in ours), "")


def _explained(found: Standing, words: Mapping[int, Word], field: Field, missing: str) -> Standing:
    if found.holder is None or found.holder not in field.nodes:
        return replace(found, reason=missing)
    name, word = field.nodes[found.holder].name, _word(words, found.holder)
    if found.successor is not None:
        goes_on = " and goes on answering" if _word(words, found.successor).conflict else ""
        return replace(found, reason=f"{name} announces it and is not heard{goes_on}")
    return replace(found, reason=f"{name} cannot announce it: {word.reason}" if word.stage is Stage.SILENT and word.reason else "")
