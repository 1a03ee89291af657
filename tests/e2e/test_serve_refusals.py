"""What `fabricmgr serve` refuses at its start, and `fabricmgr account reset`."""

import asyncio
from pathlib import Path

from tests.support.other_servers import answering, data_directory, pgbouncer, served
from tests.support.serve_process import Managers
from tests.support.serving import command, serve

__all__ = ["serve"]


# --- what is refused -------------------------------------------------------------------------------------------------------


def test_unknown_settings_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    refused = command("serve", "--web-worker", "2", "--data-dir", str(tmp_path))

    assert refused.returncode == 2
    assert "--web-workers" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_another_kind_of_database_is_refused(serve: Managers) -> None:
    refused = refused_database(serve, "mysql://localhost/x")

    assert "mysql is no Postgres address" in refused


async def test_a_server_with_fsync_off_is_refused_with_the_reason(serve: Managers, tmp_path: Path) -> None:
    url = data_directory(tmp_path / "other")

    with served(tmp_path / "other", fsync="off"):
        await answering(url)
        refused = await asyncio.to_thread(refused_database, serve, url)

    assert "fsync is off" in refused
    assert "alter system set fsync = on" in refused


async def test_a_standby_is_refused_with_the_reason(serve: Managers, tmp_path: Path) -> None:
    url = data_directory(tmp_path / "other")
    with served(tmp_path / "other", wal_level="replica"):
        await answering(url)
    (tmp_path / "other" / "cluster" / "standby.signal").touch()

    with served(tmp_path / "other", wal_level="replica", primary_conninfo=""):
        await answering(url)
        refused = await asyncio.to_thread(refused_database, serve, url)

    assert "the server is a standby" in refused


async def test_a_transaction_pooler_is_refused_with_the_reason(serve: Managers, empty_database_url: str) -> None:
    folder = serve.folder / "pooler"
    folder.mkdir()
    for each in (serve.folder, folder):
        each.chmod(0o755)

    with pgbouncer(folder, empty_database_url, "transaction") as url:
        await answering(url)
        refused = await asyncio.to_thread(refused_database, serve, url)

    assert "a transaction pooler stands before the server" in refused


def refused_database(serve: Managers, url: str) -> str:
    """The one sentence a manager ends with."""
    refused = command("serve", "--data-dir", str(serve.folder / "data"), "--listen", "127.0.0.1:0", "--database-url", url)
    assert refused.returncode == 3, refused.stdout + refused.stderr
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("fabricmgr: this database cannot be used: ")
    return last


def test_a_database_under_another_master_key_is_refused_with_what_to_do(serve: Managers, empty_database_url: str) -> None:
    serve.start(serve.folder / "one", "--database-url", empty_database_url).ready()

    refused = command("serve", "--data-dir", str(serve.folder / "two"), "--listen", "127.0.0.1:0", "--database-url", empty_database_url)

    assert refused.returncode == 3
    assert "master key" in refused.stderr
    assert refused.stderr.strip().splitlines()[-1].startswith("fabricmgr: ")


def test_a_database_that_is_away_is_waited_for_and_named_without_its_password(serve: Managers) -> None:
    waiting = serve.start(serve.folder / "data", "--database-url", "postgresql://user:secret@127.0.0.1:1/none")

    waiting.until_said(r"waiting for the database: .*user@127.0.0.1:1")

    assert "secret" not in waiting.output.read_text()
    assert waiting.stop()[0] == 0


# --- account reset ---------------------------------------------------------------------------------------------------------


def test_a_locked_out_administrator_gets_in_again_while_the_manager_runs(serve: Managers) -> None:
    running = serve.start(serve.folder / "data").ready()

    done = command("account", "reset", "--data-dir", str(running.data_dir))

    assert done.returncode == 0, done.stderr
    with running.client(done.stdout.strip().rpartition(" ")[2]) as client:
        assert client.get("/v1/clusters").status_code == 200
    with running.client() as client:
        assert client.get("/v1/clusters").status_code == 401


def test_a_password_is_reset_while_no_manager_runs(serve: Managers) -> None:
    running = serve.start(serve.folder / "data").ready()
    assert running.stop()[0] == 0

    done = command("account", "reset", "admin", "--data-dir", str(running.data_dir))
    again = serve.start(serve.folder / "data").ready()

    with again.client(done.stdout.strip().rpartition(" ")[2]) as client:
        assert client.get("/v1/clusters").status_code == 200


def test_reset_where_no_manager_ever_ran_says_so(tmp_path: Path) -> None:
    refused = command("account", "reset", "--data-dir", str(tmp_path / "nothing"))

    assert refused.returncode == 2
    assert "--data-dir" in refused.stderr
    assert not (tmp_path / "nothing").exists()
