"""One manager for all tests of a module, where they do not disturb each other."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fabricmgr.settings import ManagerSettings
from tests.support.manager import Served, serving
from tests.support.postgres import run_sql, with_database


@contextlib.contextmanager
def shared_manager(server_url: str, template: str, folder: Path, settings: ManagerSettings | None = None) -> Iterator[Served]:
    """On a database of its own, dropped at the end."""
    name = f"fm_module_{folder.name.lower().replace('-', '_')}"
    run_sql(server_url, f'drop database if exists "{name}" with (force)', f'create database "{name}" template {template}')
    try:
        with serving(with_database(server_url, name), folder, settings) as served:
            yield served
    finally:
        run_sql(server_url, f'drop database "{name}" with (force)')
