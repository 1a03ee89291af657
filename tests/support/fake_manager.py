"""A manager for one node, in memory: speaks `wire` over TLS as the real one does, so that an agent can be tried without a database.

`python -m tests.support.fake_manager DIRECTORY` listens on 127.0.0.1 (any port), writes `url`, `token` and `ready` into the directory, and
serves until it is ended. What it believes lies in `copy.json`, written after each change, and survives its own restart. `desired.json` is
read at every poll, so a test changes networks by writing it.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import uvicorn

from fabricmgr import wire
from fabricmgr.domain.errors import FabricError, HelloRequired, LifeRefused, PoolExhausted, ReportGap
from fabricmgr.domain.node import Token
from fabricmgr.problems import problem_of
from fabricmgr.services import certificates
from fabricmgr.services.certificates import Authority, parse_public_key

CENTRAL = "10.77.255.0/24"


class Copy(msgspec.Struct, kw_only=True):
    """What the manager knows of the node. held: by network/container/ifname; history: every change it was told, in order."""

    life: str = ""
    last: int = 0
    blocks: dict[str, wire.GrantedBlock] = {}
    held: dict[str, wire.Owned] = {}
    central: dict[str, list[wire.BlockAddress]] = {}
    history: list[wire.Change] = []
    hellos: int = 0
    addresses: list[str] = []
    numbers: list[int] = []
    next_central: int = 1
    heard_at: float = 0.0


class FakeManager:
    """One use of each call of `wire`. The node is always `n1`."""

    def __init__(self, directory: Path, now: Any = None):
        self.directory = directory
        self._now = now or (lambda: datetime.now(UTC))
        path = directory / "copy.json"
        self.copy = msgspec.json.decode(path.read_bytes(), type=Copy) if path.exists() else Copy()

    def save(self) -> None:
        aside = self.directory / "copy.json.new"
        aside.write_bytes(msgspec.json.encode(self.copy))
        aside.rename(self.directory / "copy.json")

    def networks(self) -> list[wire.NetworkSpec]:
        return msgspec.json.decode((self.directory / "desired.json").read_bytes(), type=list[wire.NetworkSpec])

    def hello(self, said: wire.Hello) -> wire.Welcome:
        copy, life = self.copy, str(said.life)
        same = copy.life == life
        silent = self._now().timestamp() - copy.heard_at
        if copy.life and not same and silent < wire.HEARTBEAT_LAPSE:
            raise LifeRefused("n1", copy.life, int(silent))
        named = {} if said.journal_lost else {each.prefix: each for each in said.blocks}
        for prefix, block in list(copy.blocks.items()):
            if prefix not in named:
                rests = self._now() + timedelta(seconds=block.cooldown_seconds)
                copy.blocks[prefix] = msgspec.structs.replace(
                    block, claim=block.claim + 1, generation=block.generation + 2**40, rested_at=rests
                )
        copy.addresses = said.addresses
        copy.held = {key_of(each): each for each in said.attachments}
        copy.life, copy.hellos, copy.heard_at = life, copy.hellos + 1, self._now().timestamp()
        copy.last = max(said.last_number, copy.last if same else 0)
        lost = [prefix for prefix in named if prefix not in copy.blocks]
        return wire.Welcome(
            node="n1", cluster="default", last_number=copy.last, blocks=list(copy.blocks.values()), lost=lost, mark="1", now=self._now()
        )

    def report(self, said: wire.Report) -> wire.Acknowledged:
        self.heard(str(said.life))
        if said.number > self.copy.last + 1:
            raise ReportGap("n1", said.number, self.copy.last + 1)
        if said.number == self.copy.last + 1:
            for change in said.changes:
                self._apply(change)
            self.copy.last = said.number
            self.copy.numbers.append(said.number)
        return wire.Acknowledged(number=self.copy.last, mark="1")

    def _apply(self, change: wire.Change) -> None:
        key = key_of(change.owned)
        held = self.copy.held.get(key)
        self.copy.history.append(change)
        if change.kind is wire.ChangeKind.ASSIGNED:
            self.copy.held[key] = change.owned
        elif held is not None and generations(held) & generations(change.owned):
            if change.kind is wire.ChangeKind.GONE:
                del self.copy.held[key]
                self.copy.central.pop(key, None)
            else:
                self.copy.held[key] = msgspec.structs.replace(held, released=True)

    def wanted(self, said: wire.BlocksWanted) -> wire.BlocksGranted:
        self.heard(str(said.life))
        for each in said.confirm:
            block = self.copy.blocks.get(each.prefix)
            if block is not None and block.claim == each.claim and block.state == "pending":
                self.copy.blocks[each.prefix] = msgspec.structs.replace(block, state="confirmed")
        for each in said.give_back:
            self.copy.blocks.pop(each.prefix, None)
        specs = {spec.name: spec for spec in self.networks()}
        for want in said.wanted:
            self._claim(specs[want.network], want)
        return wire.BlocksGranted(blocks=list(self.copy.blocks.values()), mark="1")

    def _claim(self, spec: wire.NetworkSpec, want: wire.WantedBlocks) -> None:
        prefix = next(ip_network(text) for text in spec.prefixes if ip_network(text).version == want.family)
        length = 26 if want.family == 4 else 122
        if prefix.prefixlen >= length:
            return  # too small to have blocks of nodes
        mine = [block for block in self.copy.blocks.values() if ip_network(block.prefix).overlaps(prefix)]
        for candidate in prefix.subnets(new_prefix=length):
            if len(mine) >= want.count or str(candidate) in self.copy.blocks:
                if len(mine) >= want.count:
                    return
                continue
            granted = wire.GrantedBlock(
                pool=spec.pools[0], prefix=str(candidate), claim=1, state="pending", cooldown_seconds=2.0, reserved=edges(prefix, candidate)
            )
            self.copy.blocks[granted.prefix] = granted
            mine.append(granted)

    def attach(self, key: str, asked: wire.Attach) -> wire.Attached:
        if key in self.copy.held:
            return wire.Attached(addresses=self.copy.held[key].addresses, repeated=True)
        spec = next(each for each in self.networks() if each.name == key.split("/", maxsplit=1)[0])
        families = asked.families or spec.families
        if any(ip_network(text).prefixlen >= 29 for text in spec.prefixes) and len(self.copy.central) >= 4:
            raise PoolExhausted(spec.pools[0], "IPv4", "add a prefix")
        self.copy.next_central += 1
        given = [self._central(spec, family, asked) for family in families]
        self.copy.central[key] = given
        network, container, ifname = key.split("/")
        self.copy.held[key] = wire.Owned(network=network, container=container, ifname=ifname, addresses=given, at=self._now())
        return wire.Attached(addresses=given)

    def _central(self, spec: wire.NetworkSpec, family: int, asked: wire.Attach) -> wire.BlockAddress:
        wanted = next((text for text in asked.asked if ip_address(text).version == family), None)
        prefix = next(ip_network(text) for text in spec.prefixes if ip_network(text).version == family)
        address = wanted or str(prefix.broadcast_address - self.copy.next_central)
        return wire.BlockAddress(address=address, generation=self.copy.next_central)

    def detach(self, key: str) -> None:
        self.copy.central.pop(key, None)
        self.copy.held.pop(key, None)

    def desired(self, life: str) -> wire.Desired:
        self.heard(life)
        text = (self.directory / "desired.json").read_text()
        blocks = list(self.copy.blocks.values())
        version = str(hash((text, tuple(sorted(f"{b.prefix}{b.state}{b.claim}" for b in blocks)))))
        return wire.Desired(version=version, node="n1", cluster="default", networks=self.networks(), blocks=blocks, routes=[])

    def heard(self, life: str) -> None:
        if life != self.copy.life:
            raise HelloRequired("n1", "another life")
        self.copy.heard_at = self._now().timestamp()


def key_of(owned: wire.Owned) -> str:
    return f"{owned.network}/{owned.container}/{owned.ifname}"


def generations(owned: wire.Owned) -> set[tuple[str, int]]:
    return {(each.address, each.generation) for each in owned.addresses}


def edges(prefix: Any, block: Any) -> list[str]:
    """First and last address of a prefix are never handed out."""
    ends = (prefix.network_address, prefix.broadcast_address)
    return [str(address) for address in ends if address in block]


class App:
    """The calls as an ASGI application."""

    def __init__(self, manager: FakeManager, authority: Authority, token: str):
        self.manager, self.authority, self.token = manager, authority, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        try:
            status, answer = await self.answer(scope["method"], scope["path"], parse_qs(scope["query_string"].decode()), body)
        except FabricError as error:
            row = problem_of(error)
            told = {"code": type(error).__name__, "message": row.say(error), "fields": vars(error)}
            status, answer = row.http, msgspec.json.encode({"error": told})
        self.manager.save()
        headers = [(b"content-length", str(len(answer)).encode())] if status not in (204, 304) else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes]:
        if path == "/v1/authorities":
            return 200, self.authority.authorities().encode()
        if path == "/v1/enrol":
            return 200, self._enrol(msgspec.json.decode(body, type=wire.Enrol).public_key)
        if path == "/v1/nodes/self/certificate":
            return 200, self._enrol(msgspec.json.decode(body, type=wire.Renew).public_key)
        if path == "/v1/nodes/self/desired":
            return await self._desired(query)
        if path.startswith("/v1/attachments/"):
            return self._attachment(method, path.removeprefix("/v1/attachments/"), body)
        calls: dict[str, tuple[Any, Any]] = {
            "/v1/nodes/self/hello": (self.manager.hello, wire.Hello),
            "/v1/nodes/self/reports": (self.manager.report, wire.Report),
            "/v1/nodes/self/blocks": (self.manager.wanted, wire.BlocksWanted),
        }
        call, shape = calls[path]
        return 200, msgspec.json.encode(call(msgspec.json.decode(body, type=shape)))

    def _enrol(self, public_key: str) -> bytes:
        now = datetime.now(UTC)
        made = self.authority.issue_node("default", "n1", parse_public_key(public_key), now)
        return msgspec.json.encode(
            wire.Enrolled(
                cluster="default",
                node="n1",
                certificate=certificates.pem(made),
                authorities=self.authority.authorities(),
                renew_at=now + timedelta(days=1),
            )
        )

    async def _desired(self, query: dict[str, list[str]]) -> tuple[int, bytes]:
        ends = asyncio.get_running_loop().time() + float(query["wait"][0])
        while True:
            desired = self.manager.desired(query["life"][0])
            if desired.version != query.get("version", [""])[0]:
                return 200, msgspec.json.encode(desired)
            if asyncio.get_running_loop().time() >= ends:
                return 304, b""
            await asyncio.sleep(0.1)

    def _attachment(self, method: str, key: str, body: bytes) -> tuple[int, bytes]:
        if method == "DELETE":
            self.manager.detach(key)
            return 204, b""
        return 200, msgspec.json.encode(self.manager.attach(key, msgspec.json.decode(body or b"{}", type=wire.Attach)))


def authority_in(directory: Path) -> Authority:
    """The CA of this directory, the same after a restart."""
    path = directory / "authority.json"
    now = datetime.now(UTC)
    if not path.exists():
        certificate, key = certificates.new_authority("test CA", now)
        path.write_text(json.dumps({"certificate": certificate, "key": key}))
    about = json.loads(path.read_text())
    from cryptography import x509

    return Authority(
        key=certificates.load_key(about["key"]),
        certificate=x509.load_pem_x509_certificate(about["certificate"].encode()),
        former=(),
        lifetime=timedelta(days=30),
    )


def main(directory: Path) -> None:
    authority = authority_in(directory)
    certificate, key = authority.issue_server(["127.0.0.1", "localhost"], datetime.now(UTC))
    (directory / "server.pem").write_text(key + certificate)
    token = Token.new(authority.fingerprint, lambda count: bytes(range(count)))
    port = int((directory / "port").read_text()) if (directory / "port").exists() else 0
    config = uvicorn.Config(
        App(FakeManager(directory), authority, str(token)),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        loop="asyncio",
        lifespan="off",
        ssl_certfile=str(directory / "server.pem"),
        ssl_keyfile=str(directory / "server.pem"),
    )
    asyncio.run(_serve(uvicorn.Server(config), directory, str(token)))


async def _serve(server: uvicorn.Server, directory: Path, token: str) -> None:
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if serving.done():
            serving.result()
    port = server.servers[0].sockets[0].getsockname()[1]
    (directory / "port").write_text(str(port))
    (directory / "url").write_text(f"https://127.0.0.1:{port}")
    (directory / "token").write_text(token)
    (directory / "ready").write_text("")
    await serving


if __name__ == "__main__":
    main(Path(sys.argv[1]))
