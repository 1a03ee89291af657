"""A Postgres for tests: one embedded server for the run, and for each test a database of its own with the newest schema.

`FABRICMGR_TEST_DATABASE` names another server instead (a superuser's address on it), so that the same tests run on another version.
"""

import asyncio
import os
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from fabricmgr.store import connect, migrate
from fabricmgr.store.embedded import EmbeddedPostgres

OTHER_SERVER = "FABRICMGR_TEST_DATABASE"


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    scheme, netloc, _, query, _ = urlsplit(url)
    return urlunsplit((scheme, netloc, f"/{name}", query, "")) if netloc else f"{scheme}:///{name}?{query}"


def values(url: str, *questions: str) -> list[Any]:
    """What each question's first row has first."""

    async def go() -> list[Any]:
        connection = await connect.connect(url, "test", connect.MIGRATION)
        try:
            return [await connection.fetchval(each) for each in questions]
        finally:
            await connection.close()

    return asyncio.run(go())


def run_sql(url: str, *statements: str) -> None:
    """Run statements one by one, outside a transaction."""

    async def go() -> None:
        connection = await connect.connect(url, "test", connect.MIGRATION)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(go())


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server on which databases may be made. Never for a test's own tables: see `database_url`."""
    if given := os.environ.get(OTHER_SERVER):
        yield connect.plain_url(given)
        return
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data")
    server.start()
    try:
        server.wait_ready()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """The name of a database that holds the newest schema and nothing else."""
    name = f"fm_template_{secrets.token_hex(4)}"
    run_sql(server_url, f"create database {name}")
    try:
        asyncio.run(migrate.upgrade(with_database(server_url, name)))
        yield name
    finally:
        run_sql(server_url, f"drop database {name} with (force)")


@pytest.fixture
def database_url(server_url: str, template: str) -> Iterator[str]:
    """A fresh database with the newest schema."""
    yield from _database(server_url, f"template {template}")


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """A fresh database with nothing in it."""
    yield from _database(server_url, "")


def _database(server_url: str, how: str) -> Iterator[str]:
    name = f"fm_test_{secrets.token_hex(4)}"
    run_sql(server_url, f"create database {name} {how}")
    try:
        yield with_database(server_url, name)
    finally:
        run_sql(server_url, f"drop database {name} with (force)")
