"""Migrations: one manager at a time, and nobody queues behind one that waits."""

import asyncio
from datetime import timedelta

import pytest

from fabricmgr.domain.errors import DatabaseUnavailable, DatabaseUnsuitable
from fabricmgr.store import connect, migrate
from fabricmgr.store.migrate import Patience


async def test_a_fresh_database_has_the_newest_revision(database_url: str) -> None:
    assert await migrate.current(database_url) == migrate.head()


async def test_migrating_twice_changes_nothing(database_url: str) -> None:
    said: list[str] = []

    await migrate.upgrade(database_url, said.append)

    assert await migrate.current(database_url) == migrate.head()
    assert said == []


async def test_a_schema_of_a_newer_version_is_refused_in_a_sentence(database_url: str) -> None:
    connection = await connect.connect(database_url, "newer version", connect.MIGRATION)
    await connection.execute("update alembic_version set version_num = '9999'")
    await connection.close()

    with pytest.raises(DatabaseUnsuitable) as refused:
        await migrate.upgrade(database_url)

    assert "revision 9999, which this version does not know" in refused.value.reason
    assert await migrate.current(database_url) == "9999"


async def test_managers_that_race_for_an_empty_database_all_find_it_migrated(empty_database_url: str) -> None:
    await asyncio.gather(*(migrate.upgrade(empty_database_url) for _ in range(4)))

    assert await migrate.current(empty_database_url) == migrate.head()


async def test_a_manager_that_finds_the_lock_of_migrations_taken_says_by_whom(empty_database_url: str) -> None:
    said: list[str] = []
    other = await connect.connect(empty_database_url, "other manager", connect.HOLDER)
    await other.execute("select pg_advisory_lock($1)", migrate.LOCK_KEY)
    pid = await other.fetchval("select pg_backend_pid()")

    with pytest.raises(DatabaseUnavailable) as refused:
        await migrate.upgrade(empty_database_url, said.append, Patience(limit=timedelta(seconds=0.5)))
    await other.close()

    assert f"session {pid} of " in refused.value.reason
    assert "fabricmgr other manager" in refused.value.reason
    assert said
    assert await migrate.current(empty_database_url) is None


async def test_a_lock_in_the_way_is_waited_for_briefly_named_and_the_schema_left_as_it_was(empty_database_url: str) -> None:
    """F060: a long reader holds a lock; others go on using the table while the migration waits, tries again, and gives up."""
    reader = await connect.connect(empty_database_url, "nightly dump", connect.MIGRATION)
    await reader.execute("create table alembic_version (version_num varchar(32) primary key)")
    reading = reader.transaction()
    await reading.start()
    await reader.execute("lock table alembic_version in share row exclusive mode")
    pid = await reader.fetchval("select pg_backend_pid()")
    said: list[str] = []

    async def look(_: float) -> None:
        writer = await connect.connect(empty_database_url, "writer")
        await writer.fetch("select * from alembic_version")
        await writer.close()

    with pytest.raises(DatabaseUnavailable) as refused:
        await migrate.upgrade(empty_database_url, said.append, Patience(limit=timedelta(seconds=3)), pause=look)

    assert len(said) == 2
    assert "on alembic_version" in refused.value.reason
    assert f"session {pid} of " in refused.value.reason
    assert "nightly dump" in refused.value.reason
    assert await reader.fetchval("select to_regclass('pool')") is None
    await reading.rollback()
    await reader.close()


async def test_a_migration_that_waited_goes_on_when_the_lock_is_free(empty_database_url: str) -> None:
    """F060: once the reader is done, the next try succeeds by itself."""
    reader = await connect.connect(empty_database_url, "nightly dump", connect.MIGRATION)
    await reader.execute("create table alembic_version (version_num varchar(32) primary key)")
    reading = reader.transaction()
    await reading.start()
    await reader.execute("lock table alembic_version in share row exclusive mode")

    async def free_it(_: float) -> None:
        await reading.rollback()

    await migrate.upgrade(empty_database_url, pause=free_it)

    assert await migrate.current(empty_database_url) == migrate.head()
    await reader.close()
