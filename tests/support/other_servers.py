"""Servers that an operator might name: with settings of their own, behind a pooler, as a standby."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg

from fabricmgr.store import pgbin
from fabricmgr.store.embedded import EmbeddedPostgres

MINIMAL = {"max_wal_senders": "0", "wal_level": "minimal", "listen_addresses": ""}


def data_directory(folder: Path) -> str:
    """Make one by the supervisor and stop its server; gives the address it will have."""
    made = EmbeddedPostgres(folder)
    made.start()
    made.wait_ready()
    url = made.url
    made.stop()
    return url


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[None]:
    """Serve it with settings that the supervisor would never use."""
    binaries = pgbin.find(None)
    words = MINIMAL | settings | {"unix_socket_directories": str(folder / "socket")}
    options = [word for name, value in words.items() for word in ("-c", f"{name}={value}")]
    user = pgbin.choose_user(binaries, folder, os.geteuid(), None)
    command = user.command(binaries.program("postgres"), "-D", str(folder / "cluster"), *options)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd="/") as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


async def answering(url: str) -> str:
    """The address, once its server takes connections."""
    for _ in range(100):
        try:
            connection = await asyncpg.connect(url, timeout=0.2)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            await asyncio.sleep(0.05)
        else:
            await connection.close()
            return url
    raise AssertionError(f"nobody answers at {url}")


@contextmanager
def pgbouncer(folder: Path, url: str, mode: str, more: str = "") -> Iterator[str]:
    """A real pooler before the server; gives the address through it. Like Postgres it refuses to be root."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program, "pgbouncer is not installed"
    parts, query = urlsplit(url), parse_qs(urlsplit(url).query)
    where = f"host={query.get('host', [parts.hostname or '127.0.0.1'])[0]} port={query.get('port', [parts.port or 5432])[0]}"
    database, user = parts.path.lstrip("/"), parts.username or "fabricmgr"
    password = f"password={parts.password}" if parts.password else ""
    (folder / "users").write_text(f'"{user}" ""\n')
    (folder / "ini").write_text(
        f"[databases]\n{database} = {where} user={user} {password}\n"
        f"[pgbouncer]\nlisten_port = 6432\nlisten_addr =\nunix_socket_dir = {folder}\nauth_type = any\nauth_file = {folder / 'users'}\n"
        f"pool_mode = {mode}\nlogfile = {folder / 'log'}\n{more}\n"
    )
    inside = pgbin.choose_user(pgbin.find(None), folder, os.geteuid(), None)
    with subprocess.Popen(inside.command(program, "-q", str(folder / "ini")), cwd="/", stderr=subprocess.DEVNULL) as process:
        try:
            yield f"postgresql://{user}@/{database}?host={quote(str(folder))}&port=6432"
        finally:
            process.terminate()
            process.wait(20)
