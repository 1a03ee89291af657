"""Which servers may hold our addresses: real ones, behind a real pooler, and as a real standby."""

import secrets
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from fabricmgr.domain.errors import DatabaseUnavailable, DatabaseUnsuitable
from fabricmgr.store import connect
from fabricmgr.store.connect import Limits, check_server, judge
from tests.support import scratch
from tests.support.other_servers import answering, data_directory, pgbouncer, served

SOUND = {"fsync": "on", "full_page_writes": "on"}


async def test_a_sound_server_tells_who_it_is(empty_database_url: str) -> None:
    facts = await check_server(empty_database_url)

    assert facts.major >= 15
    assert facts.version.startswith(str(facts.major))
    assert facts.system > 0
    assert not facts.proxied


async def test_an_ordinary_role_may_ask_all_that_is_checked(empty_database_url: str) -> None:
    role = f"fm_role_{secrets.token_hex(4)}"
    admin = await connect.connect(empty_database_url, "test")
    await admin.execute(f"create role {role}")
    await admin.execute(f"grant {role} to current_user")
    url = f"{empty_database_url}{'&' if '?' in empty_database_url else '?'}role={role}"

    facts = await check_server(url)

    connection = await asyncpg.connect(url)
    assert await connection.fetchval("select current_user") == role
    await connection.close()
    await admin.execute(f"drop role {role}")
    await admin.close()
    assert facts.major >= 15


def test_a_server_older_than_fifteen_is_refused() -> None:
    with pytest.raises(DatabaseUnsuitable, match=r"Postgres 14\.12, and 15 or newer"):
        judge(14, "14.12", standby=False, promises=SOUND)


async def test_nobody_answering_is_said_with_the_address_and_without_the_password() -> None:
    with pytest.raises(DatabaseUnavailable) as refused:
        await check_server("postgresql://fabricmgr:geheim@127.0.0.1:1/addresses")

    assert "fabricmgr@127.0.0.1:1/addresses" in refused.value.reason
    assert "geheim" not in refused.value.reason


async def test_an_address_of_another_kind_of_database_is_refused() -> None:
    with pytest.raises(DatabaseUnsuitable, match="mysql is no Postgres address"):
        await check_server("mysql://root@localhost/addresses")


# --- a server of its own, for what can only be set on a whole server ------------------------------------------------------


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_does_not_keep_what_it_stored_is_refused(tmp_path: Path, setting: str) -> None:
    url = data_directory(tmp_path / "data")

    with served(tmp_path / "data", **{setting: "off"}):
        await answering(url)
        with pytest.raises(DatabaseUnsuitable) as refused:
            await check_server(url)

    assert refused.value.reason.startswith(f"{setting} is off")
    assert setting in refused.value.remedy


async def test_a_standby_is_refused(tmp_path: Path) -> None:
    url = data_directory(tmp_path / "data")
    with served(tmp_path / "data", wal_level="replica"):  # a standby can't follow a log of the minimal level
        await answering(url)
    (tmp_path / "data" / "cluster" / "standby.signal").touch()

    with served(tmp_path / "data", wal_level="replica", primary_conninfo=""):
        await answering(url)
        with pytest.raises(DatabaseUnsuitable, match="is a standby"):
            await check_server(url)


# --- poolers ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """One whose path leaves room for a socket's name, and that an ordinary user can reach."""
    with tempfile.TemporaryDirectory(prefix="fm-", dir=scratch.short()) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


KNOWN = "ignore_startup_parameters = " + ", ".join(
    name for name in connect.server_settings(Limits(), "") if name not in {"application_name", "timezone"}
)


@pytest.mark.parametrize("more", ["", "server_round_robin = 1", "default_pool_size = 1", KNOWN])
async def test_a_transaction_pooler_is_refused(short_folder: Path, empty_database_url: str, more: str) -> None:
    with pgbouncer(short_folder, empty_database_url, "transaction", more) as url:
        await answering(url)

        with pytest.raises(DatabaseUnsuitable) as refused:
            await check_server(url)

    assert "a transaction pooler stands before the server" in refused.value.reason
    assert "session mode" in refused.value.remedy


async def test_a_statement_pooler_is_refused(short_folder: Path, empty_database_url: str) -> None:
    with pgbouncer(short_folder, empty_database_url, "statement") as url:
        await answering(url)

        with pytest.raises(DatabaseUnsuitable, match="a transaction pooler stands before the server"):
            await check_server(url)


async def test_a_session_pooler_that_lets_settings_through_is_taken_and_told(short_folder: Path, empty_database_url: str) -> None:
    with pgbouncer(short_folder, empty_database_url, "session", KNOWN) as url:
        await answering(url)

        facts = await check_server(url)

    assert facts.proxied


async def test_a_session_pooler_that_refuses_our_settings_is_refused_with_the_name(short_folder: Path, empty_database_url: str) -> None:
    with pgbouncer(short_folder, empty_database_url, "session") as url:
        await answering(url)

        with pytest.raises(DatabaseUnsuitable, match="session settings are refused: unsupported startup parameter"):
            await check_server(url)


# --- sessions ------------------------------------------------------------------------------------------------------------------


async def test_every_way_to_connect_sets_the_same_limits(empty_database_url: str) -> None:
    limits = Limits(timedelta(seconds=5), timedelta(seconds=2), timedelta(seconds=10))
    asked = "select name || '=' || setting from pg_settings where name in ('statement_timeout', 'lock_timeout') or name like 'idle_in_tr%'"

    one = await connect.connect(empty_database_url, "test", limits)
    by_connection = {row[0] for row in await one.fetch(asked)}
    pool = await connect.create_pool(empty_database_url, "test", size=2)
    by_pool = {row[0] for row in await pool.fetch(asked)}
    engine = connect.create_engine(f"postgresql+asyncpg{empty_database_url.removeprefix('postgresql')}", "test", size=1)
    async with engine.connect() as connection:
        by_engine = set((await connection.execute(text(asked))).scalars())
    await engine.dispose()
    await pool.close()
    await one.close()

    assert by_connection == {"statement_timeout=5000", "lock_timeout=2000", "idle_in_transaction_session_timeout=10000"}
    assert by_pool == by_engine == by_connection


async def test_a_statement_that_takes_too_long_is_ended(empty_database_url: str) -> None:
    connection = await connect.connect(empty_database_url, "test", Limits(statement=timedelta(milliseconds=50)))

    with pytest.raises(asyncpg.QueryCanceledError):
        await connection.execute("select pg_sleep(20)")

    await connection.close()
