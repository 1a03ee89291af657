"""Identity: sealed secrets, strict certificates, tokens that count once, revocation within the next write."""

import asyncio
import hashlib
import secrets
import ssl
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import select

from fabricmgr.agent import keys
from fabricmgr.domain.errors import (
    AlreadyExists,
    ClockSkew,
    DatabaseUnsuitable,
    InUse,
    Invalid,
    NotFound,
    SettingRefused,
    TokenRefused,
    Unauthenticated,
)
from fabricmgr.domain.names import DEFAULT_CLUSTER, node_name
from fabricmgr.domain.node import NodeState, TokenPolicy
from fabricmgr.services import clusters, identity, nodes
from fabricmgr.services.certificates import Authority
from fabricmgr.store.sealing import Sealer, load_master_key
from fabricmgr.store.tables import certificate, outbox, secret, token
from fabricmgr.store.tx import Database, Tx
from fabricmgr.wire import Enrol, Enrolled, Renew
from tests.support.database import NOW, opened
from tests.support.enrol import request, serial_of

SEALER = Sealer(b"m" * 32)
MONTH = timedelta(days=30)
N1 = node_name("n1")


@dataclass(frozen=True)
class World:
    """A database with its CA and the node n1, not yet enrolled."""

    database: Database
    authority: Authority
    token: str

    async def enrol(self, asked: Enrol, now: datetime = NOW) -> Enrolled:
        return await self.database.run(lambda tx: identity.enrol(tx, asked, self.authority, now, lambda: 0.5))

    async def renew(self, serial: str, asked: Renew, now: datetime = NOW) -> Enrolled:
        return await self.database.run(lambda tx: identity.renew(tx, serial, asked, self.authority, now, lambda: 0.5))

    async def who(self, serial: str, now: datetime = NOW) -> str:
        return (await self.database.run(lambda tx: identity.node_of_certificate(tx, serial, now, lock=True))).name

    def policy(self) -> TokenPolicy:
        return TokenPolicy(self.authority.fingerprint, timedelta(hours=1), secrets.token_bytes)


@asynccontextmanager
async def world(url: str) -> AsyncIterator[World]:
    async with opened(url) as database:
        ours = await database.run(lambda tx: identity.authority(tx, SEALER, MONTH, NOW))
        policy = TokenPolicy(ours.fingerprint, timedelta(hours=1), secrets.token_bytes)

        async def add(tx: Tx) -> str:
            await clusters.ensure_default(tx, NOW)
            return (await nodes.add(tx, DEFAULT_CLUSTER, N1, policy, "anna", NOW))[1]

        yield World(database, ours, await database.run(add))


def verify_strictly(folder: Path, authority: Authority, leaf: str, purpose: str) -> None:
    """As OpenSSL does it with all of RFC 5280's rules."""
    (folder / "ca.pem").write_text(authority.authorities())
    (folder / "leaf.pem").write_text(leaf)
    at = str(int(NOW.timestamp()))
    command = ["openssl", "verify", "-x509_strict", "-attime", at, "-purpose", purpose, "-CAfile", "ca.pem", "leaf.pem"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)


# --- secrets at rest -------------------------------------------------------------------------------------------------


def test_a_secret_opens_only_under_its_key_and_its_name() -> None:
    sealed = SEALER.seal("authority", b"text")

    assert SEALER.open("authority", sealed) == b"text"
    assert b"text" not in sealed
    for sealer, name in ((SEALER, "other"), (Sealer(b"x" * 32), "authority")):
        with pytest.raises(DatabaseUnsuitable):
            sealer.open(name, sealed)


async def test_managers_that_race_for_the_master_key_get_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "master-key"

    made = await asyncio.gather(*(asyncio.to_thread(load_master_key, path, create=True) for _ in range(8)))

    assert len({each.key for each in made}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("text", "mode"), [("ab" * 32, 0o640), ("ab" * 31, 0o600), ("no key", 0o600), (None, 0)])
def test_a_master_key_that_others_can_read_or_that_is_none_is_refused(tmp_path: Path, text: str | None, mode: int) -> None:
    path = tmp_path / "master-key"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)

    with pytest.raises(SettingRefused):
        load_master_key(path, create=False)


async def test_of_racing_managers_all_get_one_ca_and_its_key_is_sealed(database_url: str) -> None:
    async with opened(database_url) as database:
        made = await asyncio.gather(*(database.run(lambda tx: identity.authority(tx, SEALER, MONTH, NOW)) for _ in range(6)))

        async with database.read() as tx:
            kept = await tx.all(select(secret.c.sealed))
            with pytest.raises(DatabaseUnsuitable):
                await identity.authority(tx, Sealer(b"x" * 32), MONTH, NOW)
    assert len({each.fingerprint for each in made}) == 1
    assert len(kept) == 1
    assert b"PRIVATE KEY" not in kept[0].sealed


# --- certificates ----------------------------------------------------------------------------------------------------


async def test_all_certificates_pass_a_strict_verification(database_url: str, tmp_path: Path) -> None:
    """F058: our CA, server and node certificates, also after a renewal, by openssl with -x509_strict."""
    async with world(database_url) as w:
        server, _ = w.authority.issue_server(["manager.example", "localhost", "192.0.2.10", "2001:db8::10"], NOW)
        enrolled = await w.enrol(request(w.token))
        key = keys.make(serial_of(enrolled))
        renewed = await w.renew(serial_of(enrolled), Renew(public_key=key.public_key, proof=key.proof))

    verify_strictly(tmp_path, w.authority, server, "sslserver")
    verify_strictly(tmp_path, w.authority, enrolled.certificate, "sslclient")
    verify_strictly(tmp_path, w.authority, renewed.certificate, "sslclient")
    with pytest.raises(subprocess.CalledProcessError):
        verify_strictly(tmp_path, w.authority, enrolled.certificate, "sslserver")


async def test_certificates_have_what_rfc_5280_asks_for(database_url: str) -> None:
    """F058: key identifiers, critical constraints and usages, every listening name, a short positive serial, a start in the past."""
    async with world(database_url) as w:
        text, _ = w.authority.issue_server(["manager.example", "2001:db8::10"], NOW)
    ca, server = w.authority.certificate, x509.load_pem_x509_certificate(text.encode())

    for each, is_ca in ((ca, True), (server, False)):
        ski = each.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        aki = each.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        constraints = each.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = each.extensions.get_extension_for_class(x509.KeyUsage)
        assert ski == x509.SubjectKeyIdentifier.from_public_key(each.public_key())
        assert aki.key_identifier == x509.SubjectKeyIdentifier.from_public_key(ca.public_key()).digest
        assert (constraints.critical, constraints.value.ca) == (True, is_ca)
        assert (usage.critical, usage.value.key_cert_sign) == (True, is_ca)
        assert 0 < each.serial_number < 2**159
        assert each.not_valid_before_utc == NOW - timedelta(minutes=5)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["manager.example"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["2001:db8::10"]


async def test_a_strict_client_shakes_hands_with_our_server_certificate(database_url: str, tmp_path: Path) -> None:
    """F058: by the flags that Python 3.13 sets by default, also where this Python does not."""
    now = datetime.now(UTC)
    async with opened(database_url) as database:
        ours = await database.run(lambda tx: identity.authority(tx, SEALER, MONTH, now))
    certificate_text, key_text = ours.issue_server(["localhost", "::1"], now)
    (tmp_path / "server.pem").write_text(key_text + certificate_text)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "server.pem")
    client = ssl.create_default_context(cadata=ours.authorities())
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(b"hello\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
    said = await reader.readline()
    writer.close()
    server.close()

    assert said == b"hello\n"


async def test_during_a_rollover_both_authorities_are_told_and_the_new_one_signs(database_url: str, tmp_path: Path) -> None:
    async with world(database_url) as w:
        after = await w.database.run(lambda tx: identity.replace_authority(tx, SEALER, MONTH, NOW))
        async with w.database.read() as tx:
            again = await identity.authority(tx, SEALER, MONTH, NOW)
    server, _ = after.issue_server(["localhost"], NOW)

    verify_strictly(tmp_path, after, server, "sslserver")
    assert again.authorities() == after.authorities()
    assert w.authority.authorities() in after.authorities()
    assert after.fingerprint != w.authority.fingerprint


# --- enrolment -------------------------------------------------------------------------------------------------------


async def test_enrolment_gives_name_usage_and_lifetime_of_ours_over_the_agents_key(database_url: str) -> None:
    async with world(database_url) as w:
        key = keys.make(w.token)

        enrolled = await w.enrol(request(w.token, key=key))

        async with w.database.read() as tx:
            node = await nodes.get(tx, DEFAULT_CLUSTER, N1)
            told = [row.what for row in await tx.all(select(outbox.c.what).order_by(outbox.c.id))]
        assert await w.who(serial_of(enrolled)) == "n1"
    made = x509.load_pem_x509_certificate(enrolled.certificate.encode())
    assert made.subject.rfc4514_string() == "CN=n1,O=default"
    assert made.not_valid_after_utc == NOW + MONTH
    assert NOW + MONTH * 0.7 < enrolled.renew_at < NOW + MONTH * 0.9
    assert (enrolled.cluster, enrolled.node, enrolled.authorities) == ("default", "n1", w.authority.authorities())
    assert (node.state, node.machine_id) == (NodeState.ENROLLED, "m1")
    assert told == ["ClusterCreated", "NodeAdded", "NodeJoined"]


async def test_a_token_names_the_ca_and_is_stored_as_a_hash(database_url: str) -> None:
    async with world(database_url) as w, w.database.read() as tx:
        stored = await tx.only(select(token))

    assert w.token.startswith("fm1.")
    assert w.token.endswith(w.authority.fingerprint)
    assert stored.digest == hashlib.sha256(w.token.split(".")[1].encode()).digest()


async def test_a_token_counts_once_and_for_racing_agents_one_wins(database_url: str) -> None:
    async with world(database_url) as w:
        answers = await asyncio.gather(*(w.enrol(request(w.token, machine=f"m{n}")) for n in range(5)), return_exceptions=True)

        async with w.database.read() as tx:
            assert len(await tx.all(select(certificate))) == 1
    assert sorted(type(answer).__name__ for answer in answers) == ["Enrolled"] + ["TokenRefused"] * 4


async def test_an_enrolment_whose_answer_was_lost_is_repeated_with_the_same_answer(database_url: str) -> None:
    async with world(database_url) as w:
        asked = request(w.token)

        first = await w.enrol(asked)
        second = await w.enrol(asked)

    assert second.certificate == first.certificate


@pytest.mark.parametrize(("after", "reason"), [(timedelta(hours=1), "expired"), (timedelta(minutes=59), "")])
async def test_a_token_expires(database_url: str, after: timedelta, reason: str) -> None:
    at = NOW + after
    async with world(database_url) as w:
        if not reason:
            assert (await w.enrol(request(w.token, now=at), at)).node == "n1"
            return
        with pytest.raises(TokenRefused, match=reason):
            await w.enrol(request(w.token, now=at), at)


@pytest.mark.parametrize("text", ["", "fm1", "fm1." + "a" * 32 + "." + "0" * 64, "fm2." + "a" * 32 + "." + "0" * 64])
async def test_what_is_no_token_of_ours_is_refused(database_url: str, text: str) -> None:
    async with world(database_url) as w:
        with pytest.raises(TokenRefused):
            await w.enrol(request(text))


async def test_a_newer_token_replaces_an_older_one(database_url: str) -> None:
    async with world(database_url) as w:
        newer = await w.database.run(lambda tx: nodes.new_token(tx, DEFAULT_CLUSTER, N1, w.policy(), "anna", NOW))

        with pytest.raises(TokenRefused):
            await w.enrol(request(w.token))
        assert (await w.enrol(request(newer))).node == "n1"


async def test_a_clock_too_far_off_is_refused_with_both_times_and_the_token_still_counts(database_url: str) -> None:
    async with world(database_url) as w:
        with pytest.raises(ClockSkew) as refused:
            await w.enrol(request(w.token, now=NOW - timedelta(seconds=301)))

        assert (await w.enrol(request(w.token, now=NOW + timedelta(seconds=300)))).node == "n1"
    assert (refused.value.node, refused.value.limit_seconds) == ("n1", 300)


async def test_whoever_does_not_have_the_key_gets_no_certificate(database_url: str) -> None:
    async with world(database_url) as w:
        stolen = request(w.token, key=replace(keys.make("another message"), public_key=keys.make("x").public_key))
        for asked in (stolen, request(w.token, key=keys.make("another token"))):
            with pytest.raises(Invalid):
                await w.enrol(asked)


@pytest.mark.parametrize("public_key", ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "\ud800"])
async def test_what_is_no_key_is_refused(database_url: str, public_key: str) -> None:
    async with world(database_url) as w:
        with pytest.raises(Invalid):
            await w.enrol(request(w.token, key=replace(keys.make(w.token), public_key=public_key)))


async def test_a_node_that_was_off_for_long_enrols_again_and_its_old_certificates_end(database_url: str) -> None:
    later = NOW + timedelta(days=60)
    async with world(database_url) as w:
        before = await w.enrol(request(w.token))
        with pytest.raises(Unauthenticated, match="ended"):
            await w.who(serial_of(before), later)
        newer = await w.database.run(lambda tx: nodes.new_token(tx, DEFAULT_CLUSTER, N1, w.policy(), "anna", later))

        after = await w.enrol(request(newer, now=later), later)

        assert await w.who(serial_of(after), later) == "n1"
        with pytest.raises(Unauthenticated, match="revoked"):
            await w.who(serial_of(before))


async def test_a_renewal_is_over_a_new_key_and_the_old_certificate_counts_until_it_ends(database_url: str) -> None:
    async with world(database_url) as w:
        before = await w.enrol(request(w.token))
        key = keys.make(serial_of(before))

        after = await w.renew(serial_of(before), Renew(public_key=key.public_key, proof=key.proof), NOW + timedelta(days=24))

        assert await w.who(serial_of(before)) == await w.who(serial_of(after)) == "n1"
        with pytest.raises(Invalid):
            await w.renew(serial_of(after), Renew(public_key=key.public_key, proof=key.proof))


async def test_a_revoked_certificate_counts_no_more_from_the_next_write_on(database_url: str) -> None:
    async with world(database_url) as w:
        enrolled = await w.enrol(request(w.token))
        key = keys.make(serial_of(enrolled))
        looked = asyncio.Event()
        release = asyncio.Event()

        async def write(tx: Tx) -> None:
            await identity.node_of_certificate(tx, serial_of(enrolled), NOW, lock=True)
            looked.set()
            await release.wait()

        writing = asyncio.create_task(w.database.run(write))
        await looked.wait()
        revoking = asyncio.create_task(w.database.run(lambda tx: nodes.revoke(tx, DEFAULT_CLUSTER, N1, "anna", NOW)))
        done, _ = await asyncio.wait([revoking], timeout=0.3)
        release.set()
        await writing
        await revoking

        assert not done
        with pytest.raises(Unauthenticated, match="revoked"):
            await w.who(serial_of(enrolled))
        with pytest.raises(Unauthenticated, match="revoked"):
            await w.renew(serial_of(enrolled), Renew(public_key=key.public_key, proof=key.proof))
        with pytest.raises(TokenRefused):
            await w.enrol(request(w.token))


async def test_an_unknown_serial_is_nobody(database_url: str) -> None:
    async with world(database_url) as w:
        with pytest.raises(Unauthenticated):
            await w.who("12345")


# --- nodes -----------------------------------------------------------------------------------------------------------


async def test_a_node_is_added_once_and_removed_only_when_it_cannot_come_back_by_itself(database_url: str) -> None:
    async with world(database_url) as w:
        with pytest.raises(AlreadyExists):
            await w.database.run(lambda tx: nodes.add(tx, DEFAULT_CLUSTER, N1, w.policy(), "anna", NOW))
        await w.enrol(request(w.token))
        with pytest.raises(InUse, match="enrolled"):
            await w.database.run(lambda tx: nodes.remove(tx, DEFAULT_CLUSTER, N1, "anna", NOW))
        n2 = node_name("n2")
        await w.database.run(lambda tx: nodes.add(tx, DEFAULT_CLUSTER, n2, w.policy(), "anna", NOW))
        await w.database.run(lambda tx: nodes.remove(tx, DEFAULT_CLUSTER, n2, "anna", NOW))

        with pytest.raises(NotFound):
            await w.database.run(lambda tx: nodes.remove(tx, DEFAULT_CLUSTER, n2, "anna", NOW))
