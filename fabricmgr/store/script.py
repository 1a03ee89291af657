"""Runs an SQL script of many statements: a driver that prepares each statement cannot, so it goes to asyncpg as it is."""

from sqlalchemy import Connection
from sqlalchemy.util import await_only


def execute_script(connection: Connection, script: str) -> None:
    """Run all statements of the script inside the transaction that is open. Raises asyncpg's errors unchanged."""
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection was given back to its pool already")
    await_only(driver.execute(script))
