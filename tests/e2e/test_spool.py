"""Spooled DELs as files: which are replayed, in which order, and what becomes of the others."""

import os
from pathlib import Path

import pytest

from fabricmgr.agent.frame import LARGEST_FRAME, Frame, encode_frame
from fabricmgr.agent.request import CniRequest
from fabricmgr.agent.spool import MOST, Spool
from fabricmgr.agent.verbs import Turns
from fabricmgr.domain.errors import KernelRefused
from fabricmgr.loop import State

CONFIG = b'{"cniVersion":"1.1.0","name":"podnet","type":"fabricmgr-cni"}'
NOW = 1_000_000.0

pytestmark = pytest.mark.anyio


class Deleted:
    """A DEL that notes what it was given, and fails for the container named."""

    def __init__(self) -> None:
        self.containers: list[str] = []
        self.failing = ""

    async def __call__(self, request: CniRequest) -> None:
        if request.container == self.failing:
            raise KernelRefused("detach", 16, "busy")
        self.containers.append(request.container)


@pytest.fixture
def deleted() -> Deleted:
    return Deleted()


@pytest.fixture
def spool(tmp_path: Path, deleted: Deleted) -> Spool:
    made = Spool(tmp_path / "spool", deleted, Turns(), lambda: NOW)
    made.prepare()
    return made


def lay(spool: Spool, name: str, at: float = 0.0, frame: Frame | None = None) -> Path:
    """A spooled DEL of the container that the file's name begins with, `at` seconds into the test."""
    path = spool.directory / name
    container = name.rpartition(".")[0]
    path.write_bytes(encode_frame(frame or Frame("fabricmgr-cni", "DEL", container, "/gone", "eth0", "", "/opt", stdin=CONFIG)))
    os.utime(path, (NOW + at, NOW + at))
    return path


def request(spool: Spool, name: str) -> CniRequest:
    """What is spooled under that name, which is taken away again."""
    path = lay(spool, name)
    (spooled,) = spool._read(name.rpartition(".")[0])
    path.unlink()
    return spooled.request


def stands_since(spool: Spool, at: float) -> None:
    """Nothing has come into the directory or gone from it since then, as its time says."""
    os.utime(spool.directory, (at, at))


def left(spool: Spool) -> list[str]:
    return sorted(each.name for each in spool.directory.iterdir())


async def test_the_oldest_is_replayed_first_and_nothing_is_left(spool: Spool, deleted: Deleted) -> None:
    lay(spool, "b.1", at=2)
    lay(spool, "a.2", at=3)
    lay(spool, "c.3", at=1)

    outcome = await spool.once()

    assert deleted.containers == ["c", "b", "a"]
    assert left(spool) == []
    assert outcome.sentence == "3 spooled DELs replayed"
    assert (await spool.once()).sentence == "nothing is spooled"


async def test_a_del_that_fails_stays_and_does_not_hold_up_the_others(spool: Spool, deleted: Deleted) -> None:
    lay(spool, "a.1", at=1)
    lay(spool, "b.1", at=2)
    deleted.failing = "a"

    outcome = await spool.once()

    assert deleted.containers == ["b"]
    assert left(spool) == ["a.1"]
    assert outcome.state is State.AGAIN
    assert "busy" in outcome.sentence
    deleted.failing = ""
    await spool.once()
    assert left(spool) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"\xff\xff\xff\xff",
        encode_frame(Frame("p", "DEL", "c", "", "eth0", "", "/opt", stdin=CONFIG))[:-1],
        encode_frame(Frame("p", "DEL", "c", "", "eth0", "", "/opt", stdin=CONFIG)) + b"x",
        encode_frame(Frame("p", "ADD", "c", "/ns", "eth0", "", "/opt", stdin=CONFIG)),
        encode_frame(Frame("p", "DEL", "../c", "", "eth0", "", "/opt", stdin=CONFIG)),
        encode_frame(Frame("p", "DEL", "c", "", "eth0", "", "/opt", stdin=b"{")),
        b"\0" * (LARGEST_FRAME + 100),
    ],
)
async def test_a_file_that_is_no_del_is_dropped(spool: Spool, deleted: Deleted, content: bytes) -> None:
    (spool.directory / "c.1").write_bytes(content)

    await spool.once()

    assert deleted.containers == []
    assert left(spool) == []


async def test_a_file_still_being_written_is_left_alone_until_its_writer_must_be_dead(spool: Spool, deleted: Deleted) -> None:
    lay(spool, ".fresh.1", at=-30)
    lay(spool, ".stale.1", at=-90)

    await spool.once()

    assert left(spool) == [".fresh.1"]
    assert deleted.containers == []


async def test_what_is_no_file_is_not_touched(spool: Spool, deleted: Deleted, tmp_path: Path) -> None:
    (spool.directory / "directory.1").mkdir()
    (spool.directory / "link.1").symlink_to(tmp_path / "elsewhere")

    await spool.once()

    assert left(spool) == ["directory.1", "link.1"]


async def test_a_pass_has_its_limit_and_the_next_goes_on(spool: Spool, deleted: Deleted) -> None:
    for number in range(MOST + 5):
        lay(spool, f"c{number}.1", at=number)

    first = await spool.once()
    second = await spool.once()

    assert (first.sentence, second.sentence) == (f"{MOST} spooled DELs replayed", "5 spooled DELs replayed")
    assert deleted.containers == [f"c{number}" for number in range(MOST + 5)]


async def test_an_absent_directory_is_an_empty_spool(tmp_path: Path, deleted: Deleted) -> None:
    spool = Spool(tmp_path / "absent", deleted, Turns(), lambda: NOW)

    assert (await spool.once()).sentence == "nothing is spooled"


async def test_an_add_replays_what_is_spooled_for_its_own_attachment_alone(spool: Spool, deleted: Deleted) -> None:
    """A container id may be the beginning of another's, with a dot after it, and a container may have two interfaces."""
    lay(spool, "c.1")
    lay(spool, "c.d.1")
    lay(spool, "c.2", frame=Frame("fabricmgr-cni", "DEL", "c", "", "net1", "", "/opt", stdin=CONFIG))
    lay(spool, "c.3", frame=Frame("fabricmgr-cni", "DEL", "c", "", "eth0", "", "/opt", stdin=CONFIG.replace(b"podnet", b"other")))
    parsed = [each.request for each in spool._read("c")]
    own = next(each for each in parsed if each.attachment == ("podnet", "c", "eth0"))

    await spool.before_add(own)

    assert deleted.containers == ["c"]
    assert left(spool) == ["c.2", "c.3", "c.d.1"]


async def test_an_id_longer_than_a_file_name_is_found(spool: Spool, deleted: Deleted) -> None:
    container = "x" * 253
    path = lay(spool, "x" * 200 + ".1", frame=Frame("fabricmgr-cni", "DEL", container, "", "eth0", "", "/opt", stdin=CONFIG))
    (spooled,) = spool._read(container)

    await spool.before_add(spooled.request)

    assert deleted.containers == [container]
    assert not path.exists()


async def test_a_spool_that_was_empty_is_looked_into_again_when_something_has_come(spool: Spool, deleted: Deleted) -> None:
    own = request(spool, "c.1")
    stands_since(spool, NOW - 60)
    await spool.before_add(own)

    lay(spool, "c.1")
    stands_since(spool, NOW - 59)
    await spool.before_add(own)

    assert deleted.containers == ["c"]


async def test_what_came_in_the_moment_of_the_last_look_is_found(spool: Spool, deleted: Deleted) -> None:
    """A file system's clock moves in steps, so the directory may bear the same time before and after."""
    own = request(spool, "c.1")
    stands_since(spool, NOW - 0.001)
    await spool.before_add(own)

    lay(spool, "c.1")
    stands_since(spool, NOW - 0.001)
    await spool.before_add(own)

    assert deleted.containers == ["c"]


async def test_a_spool_that_stands_still_and_empty_is_not_listed_again(spool: Spool, deleted: Deleted) -> None:
    """What no shim does, puts a file in without the directory's time moving on: an ADD does not see it, the loop's pass does."""
    own = request(spool, "c.1")
    stands_since(spool, NOW - 60)
    await spool.before_add(own)

    lay(spool, "c.1")
    stands_since(spool, NOW - 60)
    await spool.before_add(own)
    before = list(deleted.containers)
    await spool.once()

    assert before == []
    assert deleted.containers == ["c"]
