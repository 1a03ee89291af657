"""The agent's journal: an append-only file under the run directory, believed only in the boot it names.

Each record is `u32 length, u32 CRC of the length, u32 CRC of the payload, payload (MessagePack)`, written by one write and without
fdatasync: it must outlive the process, and what is from before a boot is not believed anyway. The length has a CRC of its own because a
bit turned there would otherwise look like a torn tail and hide all that follows.
"""

import fcntl
import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid4

import msgspec

from fabricmgr.agent.records import FORMAT, AnyRecord, Header, State
from fabricmgr.domain.errors import InUse, JournalUnusable

_HEAD = struct.Struct("<III")
_LENGTH = struct.Struct("<I")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[AnyRecord] = msgspec.msgpack.Decoder(AnyRecord)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Compaction pays when most of the file is history: rewriting a node's 4,000 attachments takes some 20 ms.
COMPACT_FLOOR = 1 << 20


class JournalBroken(Exception):
    """A record in the middle is not what was written: nothing after it can be believed, nor what it would have changed."""


class Writable(Protocol):
    """What the rest of the agent needs of a journal."""

    @property
    def state(self) -> State: ...

    def write(self, record: AnyRecord) -> None: ...

    def usable(self) -> str: ...

    def close(self) -> None: ...


def boot_id() -> UUID:
    """The kernel's id of this boot."""
    return UUID(BOOT_ID.read_text().strip())


def encode(record: AnyRecord) -> bytes:
    """One record as it stands in the file."""
    payload = _ENCODER.encode(record)
    length = _LENGTH.pack(len(payload))
    return _HEAD.pack(len(payload), zlib.crc32(length), zlib.crc32(payload)) + payload


def decode(data: bytes) -> tuple[list[AnyRecord], int]:
    """All whole records and the offset where they end; a torn tail lies beyond. Raises JournalBroken."""
    records: list[AnyRecord] = []
    at = 0
    while len(data) - at >= _HEAD.size:
        length, length_crc, payload_crc = _HEAD.unpack_from(data, at)
        if zlib.crc32(_LENGTH.pack(length)) != length_crc:
            raise JournalBroken(f"record {len(records)} at byte {at}: its length is not what was written")
        end = at + _HEAD.size + length
        if end > len(data):
            break
        records.append(_payload(data[at + _HEAD.size : end], payload_crc, len(records), at))
        at = end
    return records, at


def _payload(payload: bytes, crc: int, index: int, at: int) -> AnyRecord:
    if zlib.crc32(payload) != crc:
        raise JournalBroken(f"record {index} at byte {at}: its checksum differs")
    try:
        return _DECODER.decode(payload)
    except msgspec.MsgspecError as error:
        raise JournalBroken(f"record {index} at byte {at}: {error}") from None


@dataclass(frozen=True)
class Found:
    """What lay there at start. state: None where nothing can be believed; `lost` says that a journal of this boot is missing or broken."""

    state: State | None
    lost: bool
    sentence: str


def read(path: Path, boot: UUID) -> tuple[Found, int]:
    """Look at a journal and say how much of it counts: what was found, and the length of its whole records in bytes."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Found(None, True, "there was no journal"), 0
    try:
        records, end = decode(data)
    except JournalBroken as error:
        return Found(None, True, f"the journal is broken: {error}"), 0
    if not records or not isinstance(records[0], Header) or records[0].format != FORMAT:
        return Found(None, True, "the journal has no beginning that this version can read"), 0
    if records[0].boot_id != boot:
        return Found(None, False, "the journal is from another boot"), 0
    state = State(records[0])
    for record in records[1:]:
        state.apply(record)
    return Found(state, False, f"the journal holds {len(records)} records"), end


class Journal:
    """The open journal of this life. One process writes it: the lock is held as long as the object lives."""

    def __init__(self, path: Path, state: State, descriptor: int, length: int):
        self.path = path
        self.state = state
        self._descriptor = descriptor
        self._length = length
        self._floor = max(COMPACT_FLOOR, 2 * length)

    @classmethod
    def open(cls, path: Path, boot: UUID, new_life: UUID | None = None) -> "tuple[Journal, Found]":
        """Go on with the journal of this boot, or begin a new life. Raises JournalUnusable."""
        found, length = read(path, boot)
        try:
            if found.state is None:
                state = State(Header(boot_id=boot, life=new_life or uuid4()))
                return cls._begin(path, state), found
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            os.ftruncate(descriptor, length)
        except OSError as error:
            raise JournalUnusable(str(path), error.strerror or str(error)) from error
        return cls(path, found.state, descriptor, length), found

    @classmethod
    def _begin(cls, path: Path, state: State) -> "Journal":
        data = b"".join(encode(record) for record in state.snapshot())
        return cls(path, state, _replace(path, data), len(data))

    def write(self, record: AnyRecord) -> None:
        """Append one record by one write, then take it into the state. Raises JournalUnusable, and then nothing has changed."""
        data = encode(record)
        self._append(data)
        self._length += len(data)
        self.state.apply(record)
        if self._length > self._floor:
            self.compact()

    def compact(self) -> None:
        """Put the fewest records that say the same into the file's place, by rename. Where there is no room the old file stays."""
        data = b"".join(encode(record) for record in self.state.snapshot())
        try:
            fresh = _replace(self.path, data)
        except OSError:
            self._floor = 2 * self._length
            return
        os.close(self._descriptor)
        self._descriptor, self._length = fresh, len(data)
        self._floor = max(COMPACT_FLOOR, 2 * len(data))

    def usable(self) -> str:
        """Why no record can be written, or "": a journal whose directory entry is gone would be lost at the next start."""
        try:
            ours, there = os.fstat(self._descriptor), self.path.stat()
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        return "" if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino) else f"{self.path} was replaced by another file"

    def close(self) -> None:
        os.close(self._descriptor)

    def _append(self, data: bytes) -> None:
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            raise JournalUnusable(str(self.path), error.strerror or str(error)) from error
        if written != len(data):
            os.ftruncate(self._descriptor, self._length)
            raise JournalUnusable(str(self.path), f"no room for {len(data)} bytes")


def _replace(path: Path, data: bytes) -> int:
    """Write a file aside and rename it into place; gives back its open descriptor, for appending."""
    aside = path.with_name(path.name + ".new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        aside.rename(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def lock(path: Path, boot: UUID) -> int:
    """Be the only agent of this run directory: the descriptor that holds the lock. Raises InUse, naming the process that has it.

    The lock lies beside the journal, since compaction puts another file in the journal's place."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 4096, 0)
        os.close(descriptor)
        raise InUse("run directory", str(path.parent), _holder(holder)) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "boot_id": str(boot), "start": _start_time()}).encode(), 0)
    return descriptor


def _holder(data: bytes) -> str:
    try:
        said = json.loads(data)
    except ValueError:
        return "another agent, which has not said who it is"
    return f"the agent with process id {said.get('pid')} (started at {said.get('start')} ticks of boot {said.get('boot_id')})"


def _start_time() -> int:
    """Clock ticks from boot to this process' start (proc(5), field 22 of stat): with it a pid is unambiguous."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
