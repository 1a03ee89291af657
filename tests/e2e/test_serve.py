"""`fabricmgr serve` as a person meets it: starts, restarts, kills of every part, the end in order, and what it refuses."""

import asyncio
import base64
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.support.postgres import run_sql
from tests.support.serve_process import CHECKOUT, Managers, ServeProcess, command_line, free_port, open_long_poll
from tests.support.serving import POLLS, POOL, command, serve, shared

__all__ = ["serve", "shared"]


# --- first and second start ------------------------------------------------------------------------------------------------


def test_the_first_start_prints_where_the_password_lies_and_never_the_password(shared: ServeProcess) -> None:
    path = shared.until_said(r"its password lies in (\S+)")[1]

    assert Path(path) == shared.data_dir / "initial-admin-password"
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert shared.password not in shared.output.read_text()


def test_what_is_secret_is_the_owners_alone(shared: ServeProcess) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shared.data_dir.iterdir()}

    assert stat.S_IMODE(shared.data_dir.stat().st_mode) == 0o700
    assert modes["master-key"] == modes["server.pem"] == modes["initial-admin-password"] == 0o600


def test_a_client_that_trusts_the_ca_file_verifies_every_name_of_the_host(shared: ServeProcess) -> None:
    """F058: strict checks, as Python 3.13 makes them by default."""
    port = int(shared.url.rpartition(":")[2])
    context = shared.tls()
    context.verify_flags |= ssl.VERIFY_X509_STRICT

    for name in ("localhost", "127.0.0.1", socket.gethostname()):
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain, server_hostname=name) as secure:
            assert secure.version() in ("TLSv1.2", "TLSv1.3")


def test_old_tls_is_refused(shared: ServeProcess) -> None:
    tried = subprocess.run(
        ["openssl", "s_client", "-connect", shared.url.removeprefix("https://"), "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
        capture_output=True,
        text=True,
        check=False,
        input="",
        timeout=20,
    )

    assert tried.returncode != 0


def test_health_readiness_the_api_and_redfish_are_served(shared: ServeProcess) -> None:
    with shared.client() as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").json()["ready"] is True
        assert client.get("/v1/clusters").json()["items"][0]["name"] == "default"
        assert client.get("/redfish/v1/").json()["@odata.id"] == "/redfish/v1/"
        assert client.get("/redfish/v1/Fabrics").status_code == 200
        assert client.get("/v1/openapi.json").json()["openapi"].startswith("3.")


def test_idle_connections_outlive_those_of_clients_and_say_so(shared: ServeProcess) -> None:
    """F063"""
    with shared.client() as client:
        assert client.get("/healthz").headers["keep-alive"] == "timeout=80"


def test_workers_use_uvloop_where_it_is_and_say_so(shared: ServeProcess) -> None:
    assert shared.until_said(r"web 1 serves with (.*)")[1] == "uvloop and httptools"


def test_metrics_are_open_on_their_own_port_alone(shared: ServeProcess) -> None:
    with httpx2.Client(verify=shared.tls(), trust_env=False) as client:
        assert client.get(shared.metrics_url).status_code == 200
        assert "fabricmgr_loop_runs_total" in client.get(shared.metrics_url).text
        assert client.get(f"{shared.url}/metrics").status_code == 401


def test_an_event_of_a_change_is_told_to_a_long_poll(shared: ServeProcess) -> None:
    with shared.client() as client:
        last = client.get("/v1/events", params={"limit": 1}).json()["last"]
        assert client.post("/v1/clusters", json={"name": "east"}).status_code == 201

        told = client.get("/v1/events", params={"after": last, "wait": "10"})

    assert [(each["position"], each["what"]) for each in told.json()["items"]] == [(last + 1, "ClusterCreated")]


def test_the_second_start_finds_everything_and_takes_less_than_three_seconds(serve: Managers) -> None:
    data = serve.folder / "data"
    first = serve.start(data).ready()
    with first.client() as client:
        assert client.post("/v1/pools", json=POOL).status_code == 201
    authority = (data / "ca.pem").read_text()
    assert first.stop()[0] == 0

    second = serve.start(data).ready()

    seconds = float(second.until_said(r"ready after ([\d.]+) s")[1])
    with second.client() as client:
        assert client.get("/v1/pools/pods").status_code == 200
    assert (data / "ca.pem").read_text() == authority
    assert not any("password" in sentence for sentence in second.said())
    print(f"second start: {seconds} s")
    assert seconds < 3.0 * slowness(), "the budget is 3 s on an idle machine"


def slowness() -> float:
    """How much slower a process starts here and now than on an idle machine: others may be at work."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import sqlalchemy, fastapi"], check=True)
    return max(1.0, (time.monotonic() - began) / 0.6)


def test_an_ordinary_user_serves_from_a_directory_of_its_own(serve: Managers) -> None:
    if os.geteuid() != 0:
        pytest.skip("started by an ordinary user anyway")
    home = serve.folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    serve.folder.chmod(0o755)

    started = serve.start(home / "data", user=65534, HOME=str(home))
    started.ready()

    with started.client() as client:
        assert client.get("/v1/clusters").status_code == 200
    assert (home / "data").stat().st_uid == 65534
    assert started.stop()[0] == 0


# --- kills -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["web", "controllers"])
def test_a_child_that_is_killed_is_started_again_and_works(serve: Managers, role: str) -> None:
    running = serve.start(serve.folder / "data").ready()
    old = running.children(role)

    os.kill(old[0], signal.SIGKILL)

    running.until_replaced(role, old)
    running.until_ready()
    events_flow(running)


def events_flow(running: ServeProcess) -> None:
    """A change is stored, gets its position, and is told."""
    with running.client() as client:
        last = client.get("/v1/events", params={"limit": 1}).json()["last"]
        assert client.post("/v1/clusters", json={"name": f"c{last}"}).status_code == 201
        told: list[str] = []
        while "ClusterCreated" not in told:
            items = client.get("/v1/events", params={"after": last, "wait": "20"}).json()["items"]
            assert items, f"nothing but {told} was told"
            told += [each["what"] for each in items]
            last = items[-1]["position"]
    # A process that was started again says so.
    assert set(told) <= {"ClusterCreated", "ManagerStarted"}


def test_a_postmaster_that_is_killed_comes_back_under_the_same_manager(serve: Managers) -> None:
    running = serve.start(serve.folder / "data").ready()
    workers = running.children("web")

    os.kill(running.postmaster(), signal.SIGKILL)

    running.until_said(r"embedded Postgres ended")
    running.until_ready()
    events_flow(running)
    assert running.children("web") == workers


def test_a_supervisor_that_is_killed_takes_all_with_it_and_the_next_one_starts(serve: Managers) -> None:
    data = serve.folder / "data"
    first = serve.start(data).ready()
    port = first.url.rpartition(":")[2]
    left = [*first.children("web"), *first.children("controllers")]
    with first.client() as client:
        assert client.post("/v1/pools", json=POOL).status_code == 201

    first.kill()
    second = serve.start(data, "--listen", f"127.0.0.1:{port}").ready()

    assert not [pid for pid in left if command_line(pid)]  # empty also for one that only waits to be reaped
    with second.client() as client:
        assert client.get("/v1/pools/pods").status_code == 200


# --- the end ---------------------------------------------------------------------------------------------------------------


async def test_it_ends_within_five_seconds_with_a_thousand_long_polls_open_and_a_post_in_flight(serve: Managers) -> None:
    """F055: streams end first, the POST is answered, nothing is left."""
    running = serve.start(serve.folder / "data").ready()
    port, context = int(running.url.rpartition(":")[2]), running.tls()
    authorization = "Authorization: Basic " + base64.b64encode(f"admin:{running.password}".encode()).decode()
    with running.client() as client:
        last = client.get("/v1/events", params={"limit": 1}).json()["last"]
    polls = []
    for _ in range(POLLS // 50):
        opening = (open_long_poll(context, port, f"/v1/events?after={last + 1000}&wait=60", authorization) for _ in range(50))
        polls += await asyncio.gather(*opening)
    post_reader, post_writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    body = b'{"name": "late"}'
    head = (
        f"POST /v1/clusters HTTP/1.1\r\nHost: x\r\n{authorization}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    post_writer.write(head.encode() + body[:5])
    await post_writer.drain()
    await asyncio.to_thread(running.until_idle)

    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.2)
    post_writer.write(body[5:])
    await post_writer.drain()
    answered = await asyncio.wait_for(post_reader.read(), 10)
    ended = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in polls)), 10)
    await asyncio.to_thread(running.process.wait, 15)
    seconds = time.monotonic() - began

    for _, writer in [*polls, (post_reader, post_writer)]:
        writer.close()
    print(f"ended after {seconds:.2f} s")
    assert running.process.returncode == 0
    assert seconds < 5
    assert answered.startswith(b"HTTP/1.1 201")
    assert [answer[:12] for answer in ended if not answer.startswith(b"HTTP/1.1 200")] == []
    assert not (running.cluster / "postmaster.pid").exists()


async def test_a_stalled_reader_does_not_keep_it_from_ending(serve: Managers) -> None:
    """F055: a client that has stopped reading costs the drain's patience and no more."""
    running = serve.start(serve.folder / "data").ready()
    port = int(running.url.rpartition(":")[2])
    authorization = "Authorization: Basic " + base64.b64encode(f"admin:{running.password}".encode()).decode()
    _, writer = await open_long_poll(running.tls(), port, "/v1/openapi.json", authorization)
    for _ in range(40):
        writer.write(f"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n{authorization}\r\n\r\n".encode())

    code, seconds = await asyncio.to_thread(running.stop)

    writer.transport.abort()
    assert code == 0
    assert seconds < 5


def test_ctrl_c_ends_it_in_the_same_order(serve: Managers) -> None:
    running = serve.start(serve.folder / "data").ready()

    running.process.send_signal(signal.SIGINT)

    assert running.process.wait(10) == 0
    assert not (running.cluster / "postmaster.pid").exists()


def test_it_ends_while_it_starts(serve: Managers) -> None:
    starting = serve.start(serve.folder / "data")
    starting.until_said(r"making a database")

    code, _ = starting.stop(20)

    assert code == 0
    assert serve.start(serve.folder / "data").ready().stop()[0] == 0


# --- readiness -------------------------------------------------------------------------------------------------------------


def test_readiness_names_the_lock_and_the_session_a_migration_waits_for(serve: Managers, empty_database_url: str) -> None:
    """F060: it is answered over HTTPS from the start, while others go on."""
    run_sql(empty_database_url, "create table alembic_version (version_num varchar(32) not null)")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, empty_database_url], stdout=subprocess.PIPE, cwd=CHECKOUT)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        port = free_port()
        waiting = serve.start(serve.folder / "data", "--listen", f"127.0.0.1:{port}", "--database-url", empty_database_url)
        sentence = waiting.until_said(r"waiting for (.*alembic_version.*)")[1]

        with httpx2.Client(verify=False, trust_env=False, timeout=10) as client:  # our CA is not made yet
            ready, alive = client.get(f"https://127.0.0.1:{port}/readyz"), client.get(f"https://127.0.0.1:{port}/healthz")
            other, fish = client.get(f"https://127.0.0.1:{port}/v1/pools"), client.get(f"https://127.0.0.1:{port}/redfish/v1/")
    finally:
        holder.kill()
        holder.communicate()
    waiting.ready()

    assert "session" in sentence
    assert (ready.status_code, alive.status_code, other.status_code, fish.status_code) == (503, 200, 503, 503)
    assert "alembic_version" in ready.json()["waiting_for"]
    assert other.json()["error"]["code"] == "DatabaseUnavailable"
    assert "@Message.ExtendedInfo" in fish.json()["error"]


HOLD = """
import asyncio, sys
from fabricmgr.store import connect

async def hold():
    connection = await connect.connect(sys.argv[1], "holder", connect.MIGRATION)
    await connection.execute("begin; lock table alembic_version in share mode")
    print("held", flush=True)
    await asyncio.sleep(60)

asyncio.run(hold())
"""


# --- two of them -----------------------------------------------------------------------------------------------------------


def test_two_managers_with_two_workers_each_work_at_once_and_their_metrics_add_up(serve: Managers, empty_database_url: str) -> None:
    key = serve.folder / "master-key"
    options = ("--database-url", empty_database_url, "--web-workers", "2", "--metrics-listen", "127.0.0.1:0", "--master-key", str(key))
    key.write_text("ab" * 32 + "\n")
    key.chmod(0o600)
    both = [serve.start(serve.folder / name, *options) for name in ("one", "two")]
    one, two = (each.ready(90) for each in both)
    password = next(each.password for each in both if (each.data_dir / "initial-admin-password").exists())

    asked = 0
    for each in (one, two):
        for _ in range(20):
            with each.client(password) as client:  # a connection each, so that both workers get some
                assert client.get("/v1/clusters").status_code == 200
                asked += 1
    with one.client(password) as client:
        assert client.post("/v1/pools", json=POOL).status_code == 201
    with two.client(password) as client:
        assert client.put("/v1/pools/pods/allocations/web1").status_code == 201
        events = client.get("/v1/events", params={"wait": "10", "limit": 100}).json()

    assert one.tls().get_ca_certs() == two.tls().get_ca_certs()
    assert [len(each.children("web")) for each in (one, two)] == [2, 2]
    assert sum(counted(each, "/v1/clusters") for each in (one, two)) == asked
    assert [each["position"] for each in events["items"]] == list(range(1, len(events["items"]) + 1))
    assert [each.stop()[0] for each in (one, two)] == [0, 0]


def counted(running: ServeProcess, route: str) -> int:
    """Requests to a route, all workers of a manager together."""
    text = httpx2.get(running.metrics_url, trust_env=False).text
    lines = [line for line in text.splitlines() if line.startswith("fabricmgr_http_requests_total{") and f'route="{route}"' in line]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def test_a_second_manager_on_one_data_directory_is_told_who_works_there(shared: ServeProcess) -> None:
    second = command("serve", "--data-dir", str(shared.data_dir), "--listen", "127.0.0.1:0")

    assert second.returncode == 4
    assert second.stderr == (f"fabricmgr: data directory {shared.data_dir} is in use by the manager with process id {shared.process.pid}\n")


def test_a_port_that_is_taken_is_said_before_anything_is_made(shared: ServeProcess, tmp_path: Path) -> None:
    refused = command("serve", "--data-dir", str(tmp_path / "other"), "--listen", shared.url.removeprefix("https://"))

    assert refused.returncode == 2
    assert refused.stderr.startswith("fabricmgr: listen 127.0.0.1:")
    assert "in use" in refused.stderr.lower()
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["manager.lock"]
