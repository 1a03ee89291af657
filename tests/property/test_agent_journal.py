"""The journal as a state machine that may stop anywhere: at every byte, and with a bit turned."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fabricmgr.agent.journal import Journal, JournalBroken, decode, encode, read
from fabricmgr.agent.records import (
    Acked,
    AnyRecord,
    BlockDropped,
    BlockHeld,
    Done,
    Going,
    Intent,
    Place,
    Reaped,
    Resting,
    Sending,
    State,
    Undone,
)
from fabricmgr.wire import BlockAddress
from tests.support.agent_records import BLOCK, BOOT, HEADER, LIFE, NOW, address, done, intent, later, place

CONTAINERS = st.sampled_from(["a", "b", "c", "d"])
ADDRESSES = st.builds(address, st.integers(1, 6), st.integers(1, 50), st.sampled_from(["10.1.0.0/26", None]))


def key(container: str) -> tuple[str, str, str]:
    return ("podnet", container, "eth0")


RECORDS: st.SearchStrategy[AnyRecord] = st.one_of(
    st.builds(intent, CONTAINERS, ADDRESSES),
    st.builds(done, CONTAINERS, ADDRESSES),
    st.builds(lambda c, uid: Done(place=place(c, uid=uid)), CONTAINERS, st.sampled_from(["u1", "u2"])),
    st.builds(lambda c: Undone(key=key(c), since=NOW, at=later(1)), CONTAINERS),
    st.builds(lambda c: Going(key=key(c), at=later(2), reason="DEL"), CONTAINERS),
    st.builds(lambda c: Reaped(key=key(c), at=later(3)), CONTAINERS),
    st.builds(lambda n, c: Sending(number=n, count=c), st.integers(1, 9), st.integers(0, 5)),
    st.builds(lambda n, c: Acked(number=n, count=c, mark="m"), st.integers(1, 9), st.integers(0, 5)),
    st.builds(lambda state: BlockHeld(pool="pods", prefix=BLOCK.prefix, claim=3, state=state), st.sampled_from(["claiming", "releasing"])),
    st.just(BlockDropped(prefix=BLOCK.prefix)),
)


def fold(records: list[AnyRecord]) -> State:
    state = State(HEADER)
    for record in records:
        state.apply(record)
    return state


@given(st.lists(RECORDS, max_size=8), st.data())
def test_a_journal_cut_at_any_byte_holds_the_whole_records_before_it(records: list[AnyRecord], data: st.DataObject) -> None:
    frames = [encode(HEADER), encode(BLOCK), *(encode(record) for record in records)]
    whole = b"".join(frames)
    cut = data.draw(st.integers(len(frames[0]), len(whole)))

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal"
        path.write_bytes(whole[:cut])
        found, end = read(path, BOOT)

    count = max(n for n in range(len(frames) + 1) if sum(map(len, frames[:n])) <= cut)
    assert end == sum(map(len, frames[:count]))
    assert found.state == fold([HEADER, BLOCK, *records][:count])


@given(st.lists(RECORDS, max_size=6), st.data())
def test_no_turned_bit_is_ever_believed(records: list[AnyRecord], data: st.DataObject) -> None:
    whole = bytearray(b"".join([encode(HEADER), encode(BLOCK), *(encode(record) for record in records)]))
    at = data.draw(st.integers(0, len(whole) * 8 - 1))

    whole[at // 8] ^= 1 << (at % 8)

    try:
        decode(bytes(whole))
    except JournalBroken:
        return
    raise AssertionError("a turned bit passed for what was written")


@given(st.lists(RECORDS, max_size=30))
def test_a_compacted_journal_says_the_same(records: list[AnyRecord]) -> None:
    state = fold([BLOCK, *records])

    again = fold(state.snapshot())

    assert said(again) == said(state)


def said(state: State) -> object:
    """All of a state; when an attachment began to go is no part of it once that was told."""
    return state.blocks, state.attachments, state.resting, state.unreported, state.sending, state.number, state.mark, state.desired


@given(st.lists(RECORDS, max_size=30))
def test_an_address_is_never_both_held_and_resting(records: list[AnyRecord]) -> None:
    """Of what an agent writes: it gives nobody an address that another one has or had in that generation."""
    state = fold([BLOCK])
    for record in records:
        if not (isinstance(record, Intent | Done) and assignments(record.place) & (held(state, but=record.place.key) | resting(state))):
            state.apply(record)

    assert not held(state) & resting(state)


def assignments(place: Place) -> set[tuple[str, int]]:
    return {(each.address, each.generation) for each in place.owned.addresses}


def held(state: State, but: tuple[str, str, str] | None = None) -> set[tuple[str, int]]:
    return {each for key, attachment in state.attachments.items() if key != but for each in assignments(attachment.place)}


def resting(state: State) -> set[tuple[str, int]]:
    return {(each.address.address, each.address.generation) for each in state.resting.values()}


class Crashes(RuleBasedStateMachine):
    """An agent that writes, compacts, and is killed between or in the middle of writes. The model is what all records add up to."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "journal"
        self.model = State(HEADER)

    @initialize()
    def begin(self) -> None:
        self.journal, found = Journal.open(self.path, BOOT, LIFE)
        assert found.state is None
        assert found.lost

    @rule(record=RECORDS)
    def write(self, record: AnyRecord) -> None:
        self.journal.write(record)
        self.model.apply(record)

    @rule()
    def compact(self) -> None:
        self.journal.compact()

    @rule(record=RECORDS, data=st.data())
    def die_in_a_write(self, record: AnyRecord, data: st.DataObject) -> None:
        frame = encode(record)
        cut = data.draw(st.integers(0, len(frame) - 1))
        self.journal.close()
        with self.path.open("ab") as file:
            file.write(frame[:cut])
        self.journal, found = Journal.open(self.path, BOOT)
        assert not found.lost

    @rule()
    def die_in_compaction(self) -> None:
        self.journal.close()
        self.path.with_name("journal.new").write_bytes(b"half a file")
        self.journal, found = Journal.open(self.path, BOOT)
        assert not found.lost

    @invariant()
    def what_was_written_is_remembered(self) -> None:
        found, _ = read(self.path, BOOT)
        assert found.state is not None
        assert found.state.header.life == LIFE
        assert said(found.state) == said(self.model)

    @invariant()
    def every_attachment_is_found_by_its_container_and_its_pod(self) -> None:
        attachments = self.journal.state.attachments

        assert {key for keys in self.journal.state.by_container.values() for key in keys} == set(attachments)
        assert all(key[1] == name for name, keys in self.journal.state.by_container.items() for key in keys)
        pods = {(each.place.owned.uid, key) for key, each in attachments.items() if each.place.owned.uid}
        assert {(uid, key) for uid, keys in self.journal.state.by_uid.items() for key in keys} == pods

    def teardown(self) -> None:
        self.journal.close()
        self.directory.cleanup()


TestCrashes = Crashes.TestCase


def test_a_resting_address_written_by_compaction_keeps_its_clock() -> None:
    quoted = BlockAddress(address="10.1.0.9", generation=4, block=BLOCK.prefix, claim=3)

    state = fold([BLOCK, Resting(address=quoted, since=NOW)])

    assert fold(state.snapshot()).resting["10.1.0.9"].since == NOW
