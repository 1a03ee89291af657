"""Alembic's entry: `fabricmgr.store.migrate` runs it over a connection of its own."""

from alembic import context
from sqlalchemy import Connection

from fabricmgr.store.tables import METADATA


def run(connection: Connection) -> None:
    """One transaction for all, so that a migration that fails leaves the schema as it was."""
    context.configure(connection=connection, target_metadata=METADATA, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if not isinstance(given, Connection):
    raise SystemExit("migrations are run by `fabricmgr serve` or fabricmgr.store.migrate, which hold the lock they need")
run(given)
