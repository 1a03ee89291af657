"""Whether two descriptions are of one machine.

A machine's UUID is told in two byte orders: firmware, BMC and operating system differ on whether its first three fields are little-endian
(SMBIOS 2.6 and later say they are, DSP0134 section 7.2.1), and an update may swap one of them. A match of the swapped form alone is weak,
since two machines may have such a pair: a second witness is asked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from fabricmgr.domain.addresses import Address

# What firmware of machines that were given no UUID says, the same on each.
_NONE = frozenset({UUID(int=0), UUID(int=2**128 - 1), UUID("03000200-0400-0500-0006-000700080009")})


@dataclass(frozen=True)
class Machine:
    """uuid: as it was written, perhaps empty. macs: in any case and with any separators. name: of the node, where both have the same."""

    uuid: str = ""
    serial: str = ""
    macs: frozenset[str] = frozenset()
    addresses: frozenset[Address] = frozenset()
    name: str = ""


@dataclass(frozen=True)
class Verdict:
    """same: it is one machine. reason: what says so, or what speaks against it although something spoke for it; else empty."""

    same: bool
    reason: str = ""


def canonical(text: str) -> UUID | None:
    """None for what is no UUID, or one that every machine without one has."""
    try:
        found = UUID(text.strip())
    except ValueError:
        return None
    return None if found in _NONE else found


def swapped(uuid: UUID) -> UUID:
    """Its other byte order."""
    return UUID(bytes_le=uuid.bytes)


def forms(text: str) -> tuple[str, ...]:
    """Both spellings of a UUID, lower case, the given one first: what it may be looked up by. Empty for none."""
    found = canonical(text)
    return () if found is None else tuple(dict.fromkeys((str(found), str(swapped(found)))))


def compare(one: Machine, other: Machine) -> Verdict:
    """By UUID as it is; by UUID in the other byte order with a second witness; without a UUID on either side by witnesses alone."""
    first, second = canonical(one.uuid), canonical(other.uuid)
    against = _against(one, other)
    if first is not None and first == second:
        return Verdict(not against, against or "the same UUID")
    witness = _witness(one, other)
    if first is not None and second is not None:
        if swapped(first) != second:
            return Verdict(False, f"{witness}, but UUIDs {first} and {second}" if witness else "")
        if against or not witness:
            return Verdict(False, f"UUID {second} is {first} in the other byte order, but {against or 'nothing else speaks for it'}")
        return Verdict(True, f"UUID {second} in the other byte order, and {witness}")
    return Verdict(bool(witness) and not against, against or witness)


class Known:
    """Machines by what may speak for them, so that one among thousands is found without comparing it with each."""

    def __init__(self, machines: Iterable[Machine]) -> None:
        self._machines: Sequence[Machine] = [*machines]
        self._places: dict[str, list[int]] = {}
        for place, each in enumerate(self._machines):
            for key in _keys(each):
                self._places.setdefault(key, []).append(place)

    def find(self, wanted: Machine) -> tuple[int | None, str]:
        """Which of them it is, by place, and why; else None, and what is doubtful. Of several the one of the same name (cloned machines
        share a UUID)."""
        places = sorted({place for key in _keys(wanted) for place in self._places.get(key, ())})
        verdicts = {place: compare(wanted, self._machines[place]) for place in places}
        same = [place for place, verdict in verdicts.items() if verdict.same]
        named = [place for place in same if wanted.name and self._machines[place].name == wanted.name]
        if len(named or same) == 1:
            place = (named or same)[0]
            return place, verdicts[place].reason
        if same:
            return None, f"{len(same)} machines have UUID {wanted.uuid}"
        return None, next((verdict.reason for verdict in verdicts.values() if verdict.reason), "")


def find(wanted: Machine, machines: Iterable[Machine]) -> tuple[int | None, str]:
    """Among a few."""
    return Known(machines).find(wanted)


def _keys(machine: Machine) -> set[str]:
    names = {f"name {machine.name}"} if machine.name else set()
    serial = {f"serial {machine.serial.strip().lower()}"} if machine.serial else set()
    return {*forms(machine.uuid), *_plain(machine.macs), *map(str, machine.addresses)} | names | serial


def _against(one: Machine, other: Machine) -> str:
    if one.serial and other.serial and one.serial.strip().lower() != other.serial.strip().lower():
        return f"serial numbers {one.serial} and {other.serial} differ"
    return ""


def _witness(one: Machine, other: Machine) -> str:
    if one.serial and other.serial and not _against(one, other):
        return f"serial number {one.serial}"
    if shared := _plain(one.macs) & _plain(other.macs):
        return f"MAC {min(shared)}"
    if addresses := one.addresses & other.addresses:
        return f"address {min(map(str, addresses))}"
    return f"name {one.name}" if one.name and one.name == other.name else ""


def _plain(macs: Iterable[str]) -> set[str]:
    found = {"".join(letter for letter in each.lower() if letter in "0123456789abcdef") for each in macs}
    return {":".join(each[place : place + 2] for place in range(0, 12, 2)) for each in found if len(each) == 12 and each != "0" * 12}
