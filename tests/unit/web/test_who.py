"""Who is asking: what may be old, what must be fresh, and how many questions it costs."""

import asyncio
import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from fabricmgr.domain.account import AccountPrincipal as KnownAccount
from fabricmgr.domain.account import NodePrincipal as KnownNode
from fabricmgr.domain.account import Presented, Role
from fabricmgr.domain.errors import Unauthenticated
from fabricmgr.domain.names import cluster_name, node_name
from fabricmgr.services.certificates import new_authority
from fabricmgr.services.client_certificates import presented
from fabricmgr.web.asgi import Scope
from fabricmgr.web.who import TRAIL, AccountPrincipal, Anonymous, Lookups, NodePrincipal, Who, source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALICE = KnownAccount(1, "alice", Role.OPERATOR, False)
NODE = KnownNode(7, node_name("w1"), cluster_name("default"), "42", "m1")


@dataclass
class FakeDirectory:
    """Knows one session, one password, every certificate; counts what it is asked."""

    asked: list[str] = field(default_factory=list)
    revoked: bool = False

    async def session(self, token: str, now: datetime) -> KnownAccount:
        self.asked.append(token)
        await asyncio.sleep(0)
        if token != "good" or self.revoked:
            raise Unauthenticated("no such session")
        return ALICE

    async def password(self, name: str, password: str, source: str, now: datetime) -> KnownAccount:
        self.asked.append(f"{name}:{password}@{source}")
        if password != "right":
            raise Unauthenticated("wrong")
        return ALICE

    async def certificate(self, shown: Presented, source: str, now: datetime) -> KnownNode:
        self.asked.append(shown.fingerprint)
        return NODE


@dataclass
class Clock:
    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


def who(directory: FakeDirectory, clock: Clock, *, basic: bool = True) -> Who:
    return Who(directory, lambda: NOW, basic, clock)


def request(method: str = "GET", *, certificate: str = "", **headers: str) -> Scope:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    tls = {"extensions": {"tls": {"client_cert_chain": [certificate]}}} if certificate else {}
    return {"method": method, "headers": pairs, "client": ("192.0.2.1", 4000), **tls}


async def test_reads_trail_by_a_second_and_not_more() -> None:
    directory, clock = FakeDirectory(), Clock()
    asker = who(directory, clock)
    await asker.identify(request(x_auth_token="good"))
    directory.revoked = True

    clock.seconds += TRAIL - 0.01
    still = await asker.identify(request(x_auth_token="good"))
    clock.seconds += 0.02

    assert isinstance(still, AccountPrincipal)
    with pytest.raises(Unauthenticated):
        await asker.identify(request(x_auth_token="good"))


async def test_a_write_never_trusts_an_old_answer() -> None:
    directory, clock = FakeDirectory(), Clock()
    asker = who(directory, clock)
    await asker.identify(request(x_auth_token="good"))
    directory.revoked = True

    with pytest.raises(Unauthenticated):
        await asker.identify(request("POST", x_auth_token="good"))


async def test_64_writers_with_one_session_cost_two_questions_at_most() -> None:
    directory = FakeDirectory()
    asker = who(directory, Clock())

    found = await asyncio.gather(*(asker.identify(request("PUT", x_auth_token="good")) for _ in range(64)))

    assert {each.name for each in found} == {"alice"}
    assert len(directory.asked) <= 2


async def test_a_fresh_question_begins_after_it_was_asked_for() -> None:
    answers = iter([1, 2, 3])
    gate = asyncio.Event()

    async def ask(key: str) -> int:
        found = next(answers)
        await gate.wait()
        return found

    lookups: Lookups[str, int] = Lookups(ask, Clock())
    first = asyncio.create_task(lookups.get("k", fresh=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = [asyncio.create_task(lookups.get("k", fresh=True)) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()

    assert await first == 1
    assert await asyncio.gather(*late) == [2] * 5


async def test_a_caller_that_leaves_takes_no_answer_from_the_others() -> None:
    gate = asyncio.Event()

    async def ask(key: str) -> str:
        await gate.wait()
        return key

    lookups: Lookups[str, str] = Lookups(ask, Clock())
    leaver, stayer = (asyncio.create_task(lookups.get("k", fresh=True)) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.sleep(0)
    gate.set()

    assert await stayer == "k"


async def test_a_forgotten_session_is_looked_up_again() -> None:
    directory = FakeDirectory()
    asker = who(directory, Clock())
    await asker.identify(request(x_auth_token="good"))

    asker.forget_session("good")
    await asker.identify(request(x_auth_token="good"))

    assert directory.asked == ["good", "good"]


async def test_a_password_comes_with_its_source() -> None:
    directory = FakeDirectory()
    given = base64.b64encode(b"alice:right").decode()

    found = await who(directory, Clock()).identify(request(authorization=f"Basic {given}"))

    assert found.actor == "alice"
    assert directory.asked == ["alice:right@192.0.2.1"]


@pytest.mark.parametrize("text", ["Basic %%%", "Basic " + base64.b64encode(b"nocolon").decode(), "Bearer x", "Basic", "Basic /w=="])
async def test_an_authorization_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        await who(FakeDirectory(), Clock()).identify(request(authorization=text))


async def test_basic_can_be_switched_off() -> None:
    given = base64.b64encode(b"alice:right").decode()

    with pytest.raises(Unauthenticated) as refused:
        await who(FakeDirectory(), Clock(), basic=False).identify(request(authorization=f"Basic {given}"))

    assert "switched off" in refused.value.reason


async def test_a_certificate_is_known_by_its_fingerprint() -> None:
    directory = FakeDirectory()
    certificate, _ = new_authority("any", NOW + timedelta(days=1), serial=lambda: 42)

    found = await who(directory, Clock()).identify(request(certificate=certificate))

    assert isinstance(found, NodePrincipal)
    assert (found.actor, directory.asked) == ("node default/w1", [presented(certificate).fingerprint])


async def test_without_credentials_it_is_nobody() -> None:
    found = await who(FakeDirectory(), Clock()).identify(request())

    assert isinstance(found, Anonymous)


def test_a_header_is_no_source() -> None:
    assert source(request(x_forwarded_for="10.0.0.1")) == "192.0.2.1"
    assert source({"client": None}) == "local"
