"""The embedded Postgres under our supervisor: real processes, as root and as an ordinary user, killed at the worst moments."""

import asyncio
import os
import pwd
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fabricmgr.store import connect, pgbin
from fabricmgr.store.connect import Connection
from fabricmgr.store.embedded import EmbeddedPostgres
from tests.support.supervised import NOBODY, Room, room

# A test that starts servers as another user must be root itself; an ordinary user tests with what it is.
USERS = [0, NOBODY] if os.geteuid() == 0 else [os.geteuid()]
OLD = Path("/usr/lib/postgresql/15/bin")
BUSY = "select count(*) from generate_series(1, 1000000000) a"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="not root")


@pytest.fixture(scope="module")
def shared_room() -> Iterator[Room]:
    with room() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(shared_room: Room) -> Iterator[None]:
    yield
    shared_room.end_running()


@pytest.fixture(params=USERS, ids=lambda uid: pwd.getpwuid(uid).pw_name)
def uid(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def home(shared_room: Room, uid: int) -> Path:
    return shared_room.home(uid)


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Connection]:
    connection = await connect.connect(url, "test", connect.MIGRATION)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def fill(url: str, rows: int = 1000) -> None:
    async with session(url) as connection:
        await connection.execute(f"create table t as select generate_series(1, {rows}) n")


async def count(url: str) -> int:
    async with session(url) as connection:
        return int(await connection.fetchval("select count(*) from t"))


async def keep_busy(url: str) -> "asyncio.Task[None]":
    """A backend in the middle of a long computation, which does not look up when its postmaster dies."""
    began = asyncio.Event()

    async def work() -> None:
        async with session(url) as connection:
            began.set()
            await connection.execute(BUSY)

    task = asyncio.create_task(work())
    await began.wait()
    await asyncio.sleep(0.2)  # until the statement has reached the server
    return task


async def broken_off(task: "asyncio.Task[None]") -> bool:
    """Whether the statement ended because its server did."""
    (result,) = await asyncio.gather(task, return_exceptions=True)
    return isinstance(result, asyncpg.PostgresError | asyncpg.InterfaceError | OSError)


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


# --- the first start, and the next -----------------------------------------------------------------------------------


async def test_first_start_makes_a_database_that_the_next_one_finds_again(shared_room: Room, home: Path, uid: int) -> None:
    first = shared_room.start(home / "data", uid)
    await fill((await first.ready())["url"])

    assert first.stop() == 0
    second = shared_room.start(home / "data", uid)

    assert await count((await second.ready())["url"]) == 1000
    assert second.stop() == 0
    assert second.said()[0] == "the embedded Postgres is ready"


async def test_nothing_outside_the_data_directory_changes(shared_room: Room, home: Path, uid: int) -> None:
    users = Path("/etc/passwd").read_bytes()

    server = shared_room.start(home / "data", uid)
    await server.ready()

    assert home.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in home.iterdir()] == ["data"]
    assert owners(home) == {uid}
    assert Path("/etc/passwd").read_bytes() == users


async def test_the_server_keeps_its_promises_whatever_a_configuration_file_says(shared_room: Room, home: Path, uid: int) -> None:
    first = shared_room.start(home / "data", uid)
    async with session((await first.ready())["url"]) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            await connection.execute(f"alter system set {setting} = off")
        await connection.execute("alter system set listen_addresses = '*'")
    first.stop()

    url = (await shared_room.start(home / "data", uid).ready())["url"]

    async with session(url) as connection:
        found = {row["name"]: row["setting"] for row in await connection.fetch("select name, setting from pg_settings")}
    kept = {name: found[name] for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums", "listen_addresses")}
    assert kept == {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on", "listen_addresses": ""}
    assert (found["max_connections"], found["wal_level"], found["max_wal_size"]) == ("64", "minimal", "2048")
    assert (home / "data" / "socket").stat().st_mode & 0o777 == 0o700


async def test_a_long_path_gets_its_socket_in_a_short_private_directory(shared_room: Room, home: Path, uid: int) -> None:
    data = home / ("long" * 30) / "data"

    server = shared_room.start(data, uid)
    url = (await server.ready())["url"]

    await fill(url)
    folder = Path(url.partition("host=")[2].partition("&")[0])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_uid == uid
    assert server.stop() == 0
    assert not folder.exists()


async def test_a_second_supervisor_is_refused_and_the_first_goes_on(shared_room: Room, home: Path, uid: int) -> None:
    first = shared_room.start(home / "data", uid)
    url = (await first.ready())["url"]
    await fill(url)

    second = shared_room.start(home / "data", uid)

    assert f"process {first.process.pid} already runs a Postgres" in (await second.failed())["failed"]
    assert await count(url) == 1000


def test_a_start_from_another_thread_is_refused_since_the_server_would_end_with_it(tmp_path: Path) -> None:
    said: list[str] = []

    def start() -> None:
        try:
            EmbeddedPostgres(tmp_path / "data").start()
        except RuntimeError as error:
            said.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

    assert "main thread" in said[0]
    assert not (tmp_path / "data").exists()


# --- deaths ------------------------------------------------------------------------------------------------------------


async def test_a_killed_server_with_busy_backends_is_back_soon_with_all_rows(shared_room: Room, home: Path, uid: int) -> None:
    server = shared_room.start(home / "data", uid)
    before = await server.ready()
    await fill(before["url"])
    busy = await keep_busy(before["url"])

    os.kill(before["pid"], 9)

    # Left alone, the orphans hold the shared memory for as long as their statements run: a minute here.
    after = await server.ready(limit=6, after=before["pid"])
    assert await count(after["url"]) == 1000
    assert any("ended" in sentence and "dead server" in sentence for sentence in server.said())
    assert await broken_off(busy)


async def test_killed_again_and_again_it_comes_back_each_time(shared_room: Room, home: Path, uid: int) -> None:
    server = shared_room.start(home / "data", uid)
    told = await server.ready()
    await fill(told["url"])

    for _ in range(3):
        os.kill(told["pid"], 9)
        told = await server.ready(after=told["pid"])

    assert await count(told["url"]) == 1000


async def test_a_killed_supervisor_leaves_no_server_and_the_next_start_is_fine(shared_room: Room, home: Path, uid: int) -> None:
    first = shared_room.start(home / "data", uid)
    url = (await first.ready())["url"]
    await fill(url)
    busy = await keep_busy(url)

    first.kill()

    await first.gone()
    second = shared_room.start(home / "data", uid)
    assert await count((await second.ready())["url"]) == 1000
    assert await broken_off(busy)


async def test_orphans_of_a_killed_supervisor_and_server_are_ended_by_the_next_start(shared_room: Room, home: Path, uid: int) -> None:
    first = shared_room.start(home / "data", uid)
    told = await first.ready()
    await fill(told["url"])
    busy = await keep_busy(told["url"])

    os.kill(told["pid"], 9)
    first.kill()
    second = shared_room.start(home / "data", uid)

    assert await count((await second.ready())["url"]) == 1000
    assert await broken_off(busy)


async def test_a_server_left_over_is_stopped_and_its_rows_are_there(shared_room: Room, home: Path, uid: int) -> None:
    first = shared_room.start(home / "data", uid)
    url = (await first.ready())["url"]
    await fill(url)
    first.stop()
    left_over = by_hand(shared_room, home / "data", uid)
    await first.until_server()

    second = shared_room.start(home / "data", uid)

    assert await count((await second.ready())["url"]) == 1000
    assert left_over.wait(10) is not None
    assert "server left over" in second.said()[0]


def by_hand(place: Room, data: Path, uid: int) -> "subprocess.Popen[bytes]":
    """A server that nobody supervises: started like the supervisor does, but not bound to a parent's life."""
    options = ["-c", f"unix_socket_directories={data / 'socket'}", "-c", "listen_addresses="]
    program = [str(place.pg_bin / "postgres"), "-D", str(data / "cluster"), *options]
    inside = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"] if uid == 0 else []
    return subprocess.Popen([*inside, *program], user=uid, group=uid, extra_groups=[], stderr=subprocess.DEVNULL, cwd="/")


async def test_a_pid_file_whose_number_belongs_to_another_process_harms_nobody(shared_room: Room, home: Path, uid: int) -> None:
    first = shared_room.start(home / "data", uid)
    await fill((await first.ready())["url"])
    first.stop()
    with subprocess.Popen(["sleep", "60"], user=uid, group=uid, extra_groups=[]) as bystander:
        for name in ("cluster/postmaster.pid", "socket/.s.PGSQL.5432.lock"):
            stale(home / "data" / name, bystander.pid, home / "data", uid)

        second = shared_room.start(home / "data", uid)

        assert await count((await second.ready())["url"]) == 1000
        assert bystander.poll() is None
        bystander.kill()


def stale(path: Path, pid: int, data: Path, uid: int) -> None:
    path.write_text(f"{pid}\n{data / 'cluster'}\n1700000000\n5432\n{data / 'socket'}\n\n  1234567     12345\nready   \n")
    path.chmod(0o600)
    os.chown(path, uid, uid)


async def test_an_interrupted_initdb_is_begun_anew(shared_room: Room, home: Path, uid: int) -> None:
    first = shared_room.start(home / "data", uid)
    await first.until_exists(home / "data", "cluster.new-*/base")
    first.kill()

    second = shared_room.start(home / "data", uid)

    await fill((await second.ready())["url"])
    assert list((home / "data").glob("cluster.new*")) == []


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


# --- where the programs come from ---------------------------------------------------------------------------------------------


def test_the_wheel_comes_before_the_system_and_a_named_folder_before_both() -> None:
    assert pgbin.candidates(None)[0] == pgbin.wheel_folder()
    assert pgbin.candidates(OLD) == [OLD]
    assert pgbin.find(OLD).major == 15
