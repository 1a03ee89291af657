"""The schema: one line of migrations that goes both ways, and tables in Python that are the same as in the database."""

import asyncio
from collections.abc import Callable

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from fabricmgr.store import connect, migrate
from fabricmgr.store.tables import METADATA

# Partitions are made by the calendar, and Alembic's own table is its own.
_OURS = "c.relnamespace = 'public'::regnamespace and not c.relispartition and c.relname <> 'alembic_version'"
_CATALOG = {
    "columns": f"""
        select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid)
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum where c.relkind in ('r', 'p') and {_OURS}
    """,
    "constraints": f"""
        select c.relname, k.conname, pg_get_constraintdef(k.oid) from pg_constraint k join pg_class c on c.oid = k.conrelid
        where k.contype <> 't' and {_OURS}
    """,
    "indexes": f"""
        select c.relname, pg_get_indexdef(i.indexrelid) from pg_class c join pg_index i on i.indrelid = c.oid where {_OURS}
    """,
    "storage": f"""
        select c.relname, c.relkind::text, c.reloptions, pg_get_partkeydef(c.oid) from pg_class c
        where c.relkind in ('r', 'p', 'S') and {_OURS}
    """,
}
_CODE = {
    "functions": "select proname, pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace",
    "triggers": "select tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal",
}

Catalog = dict[str, set[tuple[object, ...]]]


async def on(url: str, work: Callable[[Connection], None]) -> None:
    engine = connect.create_engine(url, "test", size=1, limits=connect.MIGRATION)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(work)
    finally:
        await engine.dispose()


async def catalog(url: str, queries: dict[str, str]) -> Catalog:
    found: Catalog = {}

    def read(connection: Connection) -> None:
        for name, query in queries.items():
            rows = connection.execute(text(query)).all()
            found[name] = {tuple(tuple(value) if isinstance(value, list) else value for value in row) for row in rows}

    await on(url, read)
    return found


def moved(step: Callable[..., None], revision: str) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        settings = migrate.config()
        settings.attributes["connection"] = connection
        step(settings, revision)

    return run


def test_migrations_are_one_line_with_one_head() -> None:
    scripts = ScriptDirectory.from_config(migrate.config())

    assert len(scripts.get_heads()) == 1
    assert len(scripts.get_bases()) == 1
    assert all(not script.is_branch_point for script in scripts.walk_revisions())


async def test_the_tables_in_python_are_those_in_the_database(database_url: str, empty_database_url: str) -> None:
    await on(empty_database_url, METADATA.create_all)

    modelled, migrated = await asyncio.gather(catalog(empty_database_url, _CATALOG), catalog(database_url, _CATALOG))

    for name in _CATALOG:
        assert modelled[name] - migrated[name] == set()
        assert migrated[name] - modelled[name] == set()


async def test_all_migrations_go_down_and_up_again(database_url: str) -> None:
    before = await catalog(database_url, _CATALOG | _CODE)

    await on(database_url, moved(command.downgrade, "base"))
    emptied = await catalog(database_url, _CATALOG | _CODE)
    await on(database_url, moved(command.upgrade, "head"))

    assert emptied == {name: set() for name in _CATALOG | _CODE}
    assert await catalog(database_url, _CATALOG | _CODE) == before


async def test_each_migration_goes_down_by_itself(database_url: str) -> None:
    scripts = list(ScriptDirectory.from_config(migrate.config()).walk_revisions())

    for script in scripts:
        after = await catalog(database_url, _CATALOG | _CODE)
        await on(database_url, moved(command.downgrade, "-1"))
        await on(database_url, moved(command.upgrade, script.revision))
        assert await catalog(database_url, _CATALOG | _CODE) == after
        await on(database_url, moved(command.downgrade, "-1"))
