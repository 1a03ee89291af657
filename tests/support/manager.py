"""A manager's web worker for tests: the real application under a real server with TLS, in a thread of this process, on any free port."""

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import uvicorn
import uvloop
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fabricmgr.api.build import Manager, Stores, build
from fabricmgr.app.tls import CLIENTS
from fabricmgr.controllers.leader import Leader
from fabricmgr.controllers.outbox import positioning
from fabricmgr.domain.account import AccountDraft, Role
from fabricmgr.services import accounts, clusters, identity
from fabricmgr.services.certificates import Authority
from fabricmgr.settings import ManagerSettings
from fabricmgr.store import account_rows
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database, Tx
from fabricmgr.store.writer import Writer
from fabricmgr.web.protocol import server_config

Json = dict[str, Any]
PASSWORD = "correct horse"
ACCOUNTS = {"admin": Role.ADMINISTRATOR, "operator": Role.OPERATOR, "reader": Role.READ_ONLY}


def clock() -> datetime:
    return datetime.now(UTC)


@dataclass
class Served:
    """A manager that serves. Give it work by `client`."""

    url: str
    authorities: str
    manager: Manager
    loop: asyncio.AbstractEventLoop
    tls: ssl.SSLContext
    _clients: list[httpx2.Client] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def trust(self, certificate: Path | None = None) -> ssl.SSLContext:
        """A client's side: our CA alone, and its own certificate with key if it has one."""
        context = ssl.create_default_context(cadata=self.authorities)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context

    def client(self, headers: dict[str, str] | None = None, certificate: Path | None = None, **more: Any) -> httpx2.Client:
        made = httpx2.Client(base_url=self.url, verify=self.trust(certificate), headers=headers, trust_env=False, timeout=30, **more)
        self._clients.append(made)
        return made

    def login(self, name: str = "admin", password: str = PASSWORD) -> httpx2.Client:
        """A client with a session of its own."""
        client = self.client()
        opened = client.post("/v1/sessions", json={"account": name, "password": password})
        assert opened.status_code == 201, opened.text
        client.headers["X-Auth-Token"] = opened.json()["token"]
        return client

    def node(self, folder: Path, name: str, cluster: str = "default") -> httpx2.Client:
        """A client with the certificate of a node that is added and enrolled here."""
        added = self.login().post(f"/v1/clusters/{cluster}/nodes", json={"name": name})
        assert added.status_code == 201, added.text
        return self.client(certificate=self.enrol(folder, name, added.json()["token"]))

    def enrol(self, folder: Path, name: str, token: str, machine: str = "") -> Path:
        """Enrol with a token. Gives the file of key and certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        answer = self.client().post("/v1/enrol", json=enrolment(key, token, machine or f"machine-{name}"))
        assert answer.status_code == 200, answer.text
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        path = folder / f"{name}-{secrets.token_hex(4)}.pem"
        path.write_text(pem + answer.json()["certificate"])
        return path

    def close(self) -> None:
        for client in self._clients:
            client.close()


def enrolment(key: ec.EllipticCurvePrivateKey, token: str, machine: str, now: datetime | None = None) -> Json:
    """The body of an enrolment."""
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    signature = key.sign(hashlib.sha256(token.encode()).digest(), ec.ECDSA(hashes.SHA256()))
    return {
        "token": token,
        "machine_id": machine,
        "public_key": public,
        "proof": base64.b64encode(signature).decode(),
        "now": (now or clock()).isoformat(),
    }


def hello(machine: str, life: str | None = None) -> Json:
    """The body of a hello."""
    return {
        "life": life or str(uuid4()),
        "boot_id": str(uuid4()),
        "machine_id": machine,
        "agent_version": "test",
        "addresses": ["192.0.2.10", "2001:db8:ffff::10"],
    }


@contextlib.contextmanager
def serving(
    url: str, folder: Path, settings: ManagerSettings | None = None, mount: Callable[[Manager, Stores], None] | None = None
) -> Iterator[Served]:
    """Serve a database that has the schema. mount: adds trees, before the first request."""
    thread = _Thread(url, folder, settings or ManagerSettings(), mount)
    thread.start()
    try:
        yield thread.served()
    finally:
        thread.stop()


class _Thread(threading.Thread):
    def __init__(self, url: str, folder: Path, settings: ManagerSettings, mount: Callable[[Manager, Stores], None] | None) -> None:
        super().__init__(daemon=True)
        self._url, self._folder, self._settings, self._mount = url, folder, settings, mount
        self._begun = threading.Event()
        self._found: Served | None = None
        self._failure: BaseException | None = None
        self._server: uvicorn.Server | None = None

    def served(self) -> Served:
        assert self._begun.wait(30), "the manager did not start"
        if self._failure is not None:
            raise self._failure
        assert self._found is not None
        return self._found

    def stop(self) -> None:
        if self._found is not None and self._server is not None:
            self._found.close()
            self._found.loop.call_soon_threadsafe(self._end)
        self.join(30)
        assert not self.is_alive(), "the manager did not stop"
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        assert self._found is not None
        assert self._server is not None
        self._found.manager.drain()
        self._server.should_exit = True

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - it is the test's to see
            self._failure = error
        finally:
            self._begun.set()

    async def _serve(self) -> None:
        database = await Database.open(self._url, clock=clock, name="test")
        writer = await Writer.open(self._url, clock=clock)
        stores = Stores(self._url, database, writer, Sealer(hashlib.sha256(self._url.encode()).digest()))
        manager = build(stores, self._settings, clock, "test")
        if self._mount is not None:
            self._mount(manager, stores)
        authorities, tls = await self._prepare(database, stores.sealer, manager)
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            config = server_config(manager.app, manager.renderer, keep_alive_seconds=self._settings.keep_alive_seconds, tls=tls)
            self._server = uvicorn.Server(config)
            self._found = Served(f"https://127.0.0.1:{listening.getsockname()[1]}", authorities, manager, asyncio.get_running_loop(), tls)
            beside = [
                asyncio.create_task(manager.run()),
                asyncio.create_task(Leader(self._url, "test", lambda led: [positioning(led)]).run()),
            ]
            listening.listen()
            await self._begin(manager)
            await self._server.serve(sockets=[listening])
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        await writer.close()
        await database.close()

    async def _begin(self, manager: Manager) -> None:
        for _ in range(500):
            if manager.parts.listener.connected:
                break
            await asyncio.sleep(0.01)
        self._begun.set()

    async def _prepare(self, database: Database, sealer: Sealer, manager: Manager) -> tuple[str, ssl.SSLContext]:
        hashed = await manager.parts.passwords.hashed(PASSWORD)

        async def use(tx: Tx) -> Authority:
            await clusters.ensure_default(tx, clock())
            for name, role in () if await account_rows.exist(tx) else ACCOUNTS.items():  # a manager served it before
                await accounts.create(tx, AccountDraft(name, hashed, role), "test", clock())
            return await identity.authority(tx, sealer, self._settings.node_certificate_lifetime, clock())

        ours = await database.run(use)
        certificate, key = ours.issue_server(["127.0.0.1", "localhost"], clock())
        path = self._folder / f"server-{secrets.token_hex(4)}.pem"
        path.write_text(key + certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        context.load_verify_locations(cadata=ours.authorities())
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= CLIENTS
        return ours.authorities(), context


def body_of(answer: httpx2.Response) -> Json:
    """A problem's inner part; asserts its form."""
    told = json.loads(answer.content)
    assert set(told) == {"error"}, answer.text
    assert set(told["error"]) == {"code", "message", "fields"}, answer.text
    error: Json = told["error"]
    return error
