"""The database of the manager on this machine, for a command beside it."""

import contextlib
from collections.abc import Callable, Iterator
from urllib.parse import quote

from fabricmgr.app import claim
from fabricmgr.app.refusal import Refusal
from fabricmgr.settings import ManagerSettings
from fabricmgr.store.embedded import EmbeddedPostgres
from fabricmgr.store.pgdata import DATABASE, PORT, ROLE, DataDirectory


@contextlib.contextmanager
def database_url(settings: ManagerSettings, say: Callable[[str], None]) -> Iterator[str]:
    """The operator's, or the embedded one: the running manager's, else one started for as long as this takes.

    Raises Refusal, DatabaseUnsuitable, DatabaseUnavailable."""
    folder = settings.data_dir / "postgres"
    if settings.database_url:
        yield settings.database_url
    elif claim.is_claimed(settings.data_dir):
        yield _running(DataDirectory(folder))
    elif not (folder / "cluster").exists():
        raise Refusal(f"there is no manager's database under {settings.data_dir}: name another --data-dir, or a --database-url", 2)
    else:
        lock = claim.claim_data_dir(settings.data_dir)
        server = EmbeddedPostgres(folder, pg_bin=settings.pg_bin, report=say)
        try:
            server.start()
            server.wait_ready()
            yield server.url
        finally:
            server.stop()
            claim.release(lock)


def _running(directory: DataDirectory) -> str:
    """By the fifth line of postmaster.pid, which names the socket's folder."""
    lines = directory.pid_file()
    if len(lines) < 5 or not lines[4].strip():
        raise Refusal("the manager's database is starting: try again when the manager is ready", 3)
    return f"postgresql://{ROLE}@/{DATABASE}?host={quote(lines[4].strip())}&port={PORT}"
