"""What goes wrong around the writer: killed servers, lost connections, other versions' migrations, and every class of database error."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import asyncpg
import pytest

from fabricmgr.domain.errors import Busy, DatabaseUnavailable, FabricError
from fabricmgr.store import connect, migrate
from fabricmgr.store.embedded import EmbeddedPostgres
from fabricmgr.store.repeat import Caller
from tests.support.accounting import broken
from tests.support.writer_process import allocate, direct
from tests.support.writing import Site, site

pytestmark = pytest.mark.anyio


async def inject(here: Site, code: str, times: int) -> None:
    """Let the next so many inserts of allocations fail with an error of this class. A sequence counts: it is not rolled back."""
    await here.sql.execute("create sequence injected")
    await here.sql.execute(f"""
        create function fail_1() returns trigger language plpgsql as $$ begin
          if nextval('injected') <= {times} then raise exception 'injected' using errcode = '{code}'; end if;
          return null;
        end $$""")
    await here.sql.execute("create trigger fail before insert on allocation for each statement execute function fail_1()")


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03", "57P01", "57P02", "08006", "0A000", "26000", "42P10", "25006", "57P03"])
async def test_what_another_try_can_mend_no_caller_sees(database_url: str, code: str) -> None:
    async with site(database_url) as here:
        await here.pool("hosts", "10.1.0.0/24", purpose="Node")
        await inject(here, code, times=3)

        got = await asyncio.gather(*(here.take("hosts", f"h{n}") for n in range(8)))

        assert len({each.addresses[0].address for each in got}) == 8
        assert await broken(here) == []


@pytest.mark.parametrize(("code", "answer"), [("40001", Busy), ("57P03", DatabaseUnavailable), ("08006", DatabaseUnavailable)])
async def test_after_five_tries_callers_are_told_to_come_again(database_url: str, code: str, answer: type[FabricError]) -> None:
    async with site(database_url) as here:
        await here.pool("hosts", "10.1.0.0/24", purpose="Node")
        await inject(here, code, times=5)

        with pytest.raises(answer):
            await here.take("hosts", "a")
        got = await here.take("hosts", "a")

        assert str(got.addresses[0].address) == "10.1.0.1"


async def test_a_defect_fails_its_batch_and_the_lane_goes_on(database_url: str) -> None:
    async with site(database_url) as here:
        await here.pool("hosts", "10.1.0.0/24", purpose="Node")
        await inject(here, "XX000", times=1)

        with pytest.raises(asyncpg.InternalServerError):
            await here.take("hosts", "a")
        await here.take("hosts", "b")

        assert await broken(here) == []


async def test_connections_that_are_cut_under_load_lose_and_double_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool("hosts", "10.1.0.0/20", purpose="Node")

        async def cut() -> None:
            for _ in range(5):
                await asyncio.sleep(0.03)
                await here.sql.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid() and query like '%allocate_batch%'"
                )

        cutting = asyncio.create_task(cut())
        answered: dict[str, str] = {}
        for lap in range(15):
            names = [f"{lap}-{n}" for n in range(64)]
            got = await asyncio.gather(*(here.writer.allocate((pool, None), direct(name)) for name in names))
            answered |= {name: str(each.addresses[0].address) for name, each in zip(names, got, strict=True)}
        await cutting

        assert len(set(answered.values())) == 15 * 64
        assert await here.sql.fetchval("select count(*) from allocation") == 15 * 64
        assert await broken(here) == []


async def test_a_statement_whose_result_another_version_changed_is_prepared_anew(database_url: str) -> None:
    """F057."""
    async with site(database_url) as here:
        pool = await connect.create_pool(database_url, "test", size=2)
        caller = Caller(pool, lambda: 0.5)
        await here.sql.execute("create table t (a int); insert into t values (1)")
        before = await caller.call("look", "select * from t")
        await here.sql.execute("alter table t add column b int default 2")

        after = await caller.call("look", "select * from t")

        assert [tuple(row) for row in before] == [(1,)]
        assert [tuple(row) for row in after] == [(1, 2)]
        await pool.close()


async def test_no_caller_notices_that_another_version_migrates(database_url: str) -> None:
    """F057: a column more, and the index behind `on conflict` made anew, while two managers of the older version allocate and release."""
    async with site(database_url) as here, site(database_url) as there:
        pool = await here.pool("hosts", "10.1.0.0/20", purpose="Node", cooldown=0)
        stop = asyncio.Event()

        async def load(at: Site, number: int) -> int:
            done = 0
            while not stop.is_set():
                await at.writer.allocate((pool, None), direct(f"{number}-{done}"))
                await at.give("hosts", f"{number}-{done}")
                done += 1
            return done

        loads = [asyncio.create_task(load((here, there)[n % 2], n)) for n in range(8)]
        for step in range(3):
            await asyncio.sleep(0.1)
            await here.sql.execute(f"""
                begin;
                alter table allocation add column later{step} text;
                alter table pool add column later{step} text;
                alter table allocation drop constraint allocation_pkey;
                alter table allocation add constraint another{step} primary key (owner);
                alter table allocation rename constraint another{step} to allocation_pkey;
                commit""")
        await asyncio.sleep(0.1)
        stop.set()
        done = await asyncio.gather(*loads)

        assert all(done)
        assert await broken(here) == []


async def test_eight_processes_at_once_double_nothing(database_url: str) -> None:
    async with site(database_url) as here:
        pool = await here.pool("pods", "10.2.0.0/20")
        names = [[f"p{n}" for n in range(each % 4 * 150, each % 4 * 150 + 150)] for each in range(8)]
        with ProcessPoolExecutor(8, mp_context=get_context("spawn")) as processes:
            loop = asyncio.get_running_loop()

            told = await asyncio.gather(*(loop.run_in_executor(processes, allocate, database_url, pool, each) for each in names))

        by_owner: dict[object, set[str]] = {}
        for owner, address in (pair for each in told for pair in each):
            by_owner.setdefault(owner, set()).add(address)
        assert len(by_owner) == 600
        assert all(len(each) == 1 for each in by_owner.values())
        assert len(set.union(*by_owner.values())) == 600
        assert await broken(here) == []


@contextmanager
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(folder / "data")
    made.start()
    try:
        made.wait_ready()
        yield made
    finally:
        made.stop()


async def test_what_was_answered_is_there_after_the_server_was_killed(tmp_path: Path) -> None:
    with server(tmp_path) as postgres:
        await migrate.upgrade(postgres.url)
        async with site(postgres.url) as here:
            pool = await here.pool("pods", "10.3.0.0/16", cooldown=0)
            answered: dict[str, str] = {}
            stop = asyncio.Event()

            async def caller(number: int) -> None:
                count = 0
                while not stop.is_set():
                    name = f"{number}-{count}"
                    try:
                        got = await here.writer.allocate((pool, None), direct(name))
                    except (DatabaseUnavailable, Busy):
                        continue
                    answered[name] = str(got.addresses[0].address)
                    count += 1

            callers = [asyncio.create_task(caller(n)) for n in range(32)]
            for _ in range(2):
                await until(partial(more_than, answered, 100))
                pid = postgres.pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                await until(partial(serves_again, postgres, pid))
                await until(partial(more_than, answered, len(answered) + 100))
            stop.set()
            await asyncio.gather(*callers)

        async with site(postgres.url) as after:
            rows = await after.sql.fetch("select name, host(address4) as address from allocation")
            stored = {row["name"]: row["address"] for row in rows}
            assert {name: stored.get(name) for name in answered} == answered
            assert len(set(stored.values())) == len(stored)
            assert await broken(after) == []


def serves_again(postgres: EmbeddedPostgres, killed: int) -> bool:
    postgres.poll()
    return postgres.pid not in (None, killed) and postgres.ready


def more_than(things: Sized, count: int) -> bool:
    return len(things) > count


async def until(what: Callable[[], bool], limit: float = 60) -> None:
    """Wait for something real to happen."""
    end = asyncio.get_running_loop().time() + limit
    while not what():
        assert asyncio.get_running_loop().time() < end, "it did not happen in time"
        await asyncio.sleep(0.02)
