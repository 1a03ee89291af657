"""The embedded Postgres under our supervisor: real processes, as root and as an ordinary user, killed at the worst moments."""

import os
import subprocess
import threading
from pathlib import Path

from fabricmgr.store import pgbin, pgmemory
from fabricmgr.store.embedded import EmbeddedPostgres
from tests.support.embedded_room import OLD, broken_off, count, fill, home, keep_busy, nothing_left, owners, session, shared_room, uid
from tests.support.supervised import NOBODY, Room

__all__ = ["home", "nothing_left", "shared_room", "uid"]


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
    assert int(found["shared_buffers"]) * 8192 == pgmemory.cache(pgmemory.memory())
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


# --- where the programs come from ---------------------------------------------------------------------------------------------


def test_the_wheel_comes_before_the_system_and_a_named_folder_before_both() -> None:
    assert pgbin.candidates(None)[0] == pgbin.wheel_folder()
    assert pgbin.candidates(OLD) == [OLD]
    assert pgbin.find(OLD).major == 15
