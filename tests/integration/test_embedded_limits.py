"""What the embedded Postgres refuses, by name, and what a disk that fills up does to it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.embedded_room import OLD, count, fill, home, nothing_left, owners, root_only, session, shared_room, uid
from tests.support.supervised import NOBODY, Room

__all__ = ["home", "nothing_left", "shared_room", "uid"]


# --- what is refused -----------------------------------------------------------------------------------------------------


async def test_files_of_another_major_are_refused_with_the_way_to_dump_and_load(shared_room: Room, home: Path, uid: int) -> None:
    old = shared_room.start(home / "data", uid, pg_bin=OLD)
    await fill((await old.ready())["url"])
    old.stop()

    new = shared_room.start(home / "data", uid)

    told = await new.failed()
    assert "was made by Postgres 15, and the programs in" in told["failed"]
    assert told["remedy"].startswith(f"dump and load it: start with --pg-bin {OLD}")
    again = shared_room.start(home / "data", uid, pg_bin=OLD)
    assert await count((await again.ready())["url"]) == 1000


async def test_a_folder_with_something_else_in_it_is_left_alone(shared_room: Room, home: Path, uid: int) -> None:
    (home / "data" / "cluster").mkdir(parents=True)
    (home / "data" / "cluster" / "letters.txt").write_text("dear")
    for path in (home / "data", *(home / "data").rglob("*")):
        os.chown(path, uid, uid)

    told = await shared_room.start(home / "data", uid).failed()

    assert "no Postgres data directory" in told["failed"]
    assert (home / "data" / "cluster" / "letters.txt").read_text() == "dear"


@root_only
async def test_a_data_directory_of_another_user_is_refused_with_its_name(shared_room: Room) -> None:
    home = shared_room.home(NOBODY)
    (home / "data").mkdir(mode=0o700)

    told = await shared_room.start(home / "data", NOBODY).failed()

    assert "belongs to another user" in told["failed"]


@root_only
async def test_root_in_a_chroot_runs_it_as_nobody_below_folders_that_nobody_may_enter(shared_room: Room) -> None:
    below = shared_room.home(0) / "root"
    below.mkdir()
    chroot = ("unshare", "--mount", "sh", "-c", f'mount --rbind / {below} && exec chroot {below} "$@"', "sh")

    first = await shared_room.start(shared_room.home(0) / "data", 0, before=chroot).ready()

    assert Path(f"/proc/{first['pid']}").stat().st_uid == NOBODY


@root_only
async def test_root_without_user_namespaces_is_told_to_run_as_somebody_else(shared_room: Room) -> None:
    forbid = ("unshare", "--user", "--map-root-user", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh")

    told = await shared_room.start(shared_room.home(0) / "data", 0, before=forbid).failed()

    assert "this machine forbids user namespaces" in told["failed"]
    assert "as an ordinary user" in told["remedy"]


@root_only
async def test_root_may_name_the_user_that_postgres_runs_as(shared_room: Room) -> None:
    home = shared_room.home(0)
    home.chmod(0o755)
    first = shared_room.start(home / "data", 0, "--uid", str(NOBODY))
    told = await first.ready()
    await fill(told["url"])
    assert Path(f"/proc/{told['pid']}").stat().st_uid == NOBODY
    assert owners(home / "data" / "cluster") == {NOBODY}
    first.stop()

    # The files are nobody's now: without a name, it stays so.
    again = await shared_room.start(home / "data", 0).ready()

    assert Path(f"/proc/{again['pid']}").stat().st_uid == NOBODY
    assert await count(again["url"]) == 1000


@root_only
async def test_another_user_of_the_machine_can_not_connect(shared_room: Room, home: Path, uid: int) -> None:
    url = (await shared_room.start(home / "data", uid).ready())["url"]
    stranger = 12345

    tried = subprocess.run(
        [shared_room.pg_bin / "psql", url, "-c", "select 1"],
        user=stranger,
        group=stranger,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )

    assert tried.returncode == 2
    assert "Permission denied" in tried.stderr


# --- a full disk -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own over `home`, in a mount namespace that lives as long as its holder. Nobody else sees it."""

    home: Path
    uid: int
    holder: "subprocess.Popen[bytes]"

    @property
    def entering(self) -> tuple[str, ...]:
        user = ("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups") if self.uid else ()
        return ("nsenter", "--mount", f"--target={self.holder.pid}", *user)

    def here(self, path: Path) -> Path:
        """The same place, as seen from outside."""
        return Path(f"/proc/{self.holder.pid}/root{path}")

    def url(self, told: dict[str, Any]) -> str:
        return str(told["url"]).replace(str(self.home), str(self.here(self.home)))

    def fill(self) -> Path:
        """Take all room that is left, to the last page."""
        filler = self.here(self.home) / "filler"
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        return filler


@contextmanager
def small_disk(home: Path, uid: int, size: str) -> Iterator[SmallDisk]:
    script = f'mount -t tmpfs -o size={size},mode=0700,uid={uid},gid={uid} small "$0" && echo mounted && exec sleep 600'
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script, str(home)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mounted\n"
        try:
            yield SmallDisk(home, uid, holder)
        finally:
            holder.kill()


@root_only
async def test_a_disk_too_small_for_a_first_start_is_named_and_left_clean(shared_room: Room, home: Path, uid: int) -> None:
    with small_disk(home, uid, "20m") as disk:
        told = await shared_room.start(home / "data", before=disk.entering).failed()

        assert f"the disk under {home / 'data'} is full" in told["failed"]
        assert "free some space" in told["failed"]
        assert list(disk.here(home / "data").glob("cluster*")) == []


@root_only
async def test_a_disk_that_fills_up_and_a_kill_lose_no_row_that_was_acknowledged(shared_room: Room, home: Path, uid: int) -> None:
    with small_disk(home, uid, "90m") as disk:
        server = shared_room.start(home / "data", before=disk.entering)
        told = await server.ready()
        await fill(disk.url(told))
        filler = disk.fill()
        written = await write_until_refused(disk.url(told))

        os.kill(told["pid"], 9)
        await server.until(lambda line: line["pid"] != told["pid"])
        filler.unlink()

        url = disk.url(await server.ready(after=told["pid"]))
        assert await count(url) >= 1000 + written
        async with session(url) as connection:
            await connection.execute("insert into t values (1)")
        assert server.stop() == 0


@root_only
async def test_a_start_on_a_full_disk_says_so_and_succeeds_once_there_is_room(shared_room: Room, home: Path, uid: int) -> None:
    with small_disk(home, uid, "90m") as disk:
        first = shared_room.start(home / "data", before=disk.entering)
        await fill(disk.url(await first.ready()))
        first.stop()
        filler = disk.fill()

        told = await shared_room.start(home / "data", before=disk.entering).failed()
        filler.unlink()
        again = shared_room.start(home / "data", before=disk.entering)

        assert f"the disk under {home / 'data'} is full" in told["failed"]
        assert await count(disk.url(await again.ready())) == 1000
        assert again.stop() == 0


async def write_until_refused(url: str) -> int:
    """Write rows until the server has no room for more; gives how many it had acknowledged."""
    written = 0
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        async with session(url) as connection:
            while written < 100_000_000:
                await connection.execute("insert into t select generate_series(1, 10000)")
                written += 10000
    return written
