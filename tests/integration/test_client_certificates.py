"""Who a client certificate stands for, what is not trusted at all, and what the audit log says of it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fabricmgr.domain.account import (
    AccountChange,
    AccountDraft,
    CertificateMapping,
    ClientLoginChange,
    Hashed,
    Lockout,
    NodePrincipal,
    Role,
)
from fabricmgr.domain.errors import AlreadyExists, InUse, Invalid, LockedOut, NotFound, Unauthenticated
from fabricmgr.services import accounts, client_certificates, identity
from fabricmgr.services.accounts import Gate
from fabricmgr.services.certificates import pem
from fabricmgr.services.client_certificates import MOST, presented
from fabricmgr.services.passwords import Passwords
from fabricmgr.store import account_rows, client_rows
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database
from fabricmgr.web.directory import StoredDirectory
from tests.integration.test_redfish_roles import enrolled
from tests.support.client_issuer import DAY, Client, Issuer
from tests.support.database import NOW, opened
from tests.support.here import authority

SOURCE = "192.0.2.1"
SEALER = Sealer(b"s" * 32)


@dataclass
class World:
    """A database with account alice, where login by certificate is switched on."""

    database: Database

    async def trust(self, text: str, now: datetime = NOW) -> str:
        ours = await self.database.run(lambda tx: client_certificates.ours(tx, SEALER, NOW))
        return (await self.database.run(lambda tx: client_certificates.add_authority(tx, text, ours, "boss", now))).fingerprint

    async def give(self, account: str, text: str) -> str:
        ours = await self.database.run(lambda tx: client_certificates.ours(tx, SEALER, NOW))
        return (await self.database.run(lambda tx: client_certificates.add_certificate(tx, account, text, ours, "boss", NOW))).fingerprint

    async def rule(self, *, enabled: bool | None = None, mapping: CertificateMapping | None = None) -> None:
        await self.database.run(lambda tx: client_certificates.change_login(tx, ClientLoginChange(enabled, mapping), None, "boss"))

    async def who(self, shown: Client | str, now: datetime = NOW) -> str:
        """The account that it stands for."""
        directory = StoredDirectory(self.database, Gate(self.database, Passwords(b"k" * 32)), timedelta(minutes=30))
        found = await directory.certificate(presented(shown if isinstance(shown, str) else shown.pem), SOURCE, now)
        return f"node {found.name}" if isinstance(found, NodePrincipal) else found.name

    async def refusal(self, shown: Client, now: datetime = NOW) -> str:
        with pytest.raises(Unauthenticated) as refused:
            await self.who(shown, now)
        return refused.value.reason


@asynccontextmanager
async def world(url: str) -> AsyncIterator[World]:
    async with opened(url) as database:
        for name, role in (("alice", Role.OPERATOR), ("bob@example.org", Role.READ_ONLY)):
            await database.run(partial(accounts.create, draft=AccountDraft(name, Hashed("x"), role), by="boss", now=NOW))
        found = World(database)
        await found.rule(enabled=True)
        yield found


async def test_a_trusted_cas_certificate_stands_for_the_account_that_it_names(database_url: str) -> None:
    company = Issuer("The Company", about=NOW)
    async with world(database_url) as w:
        alice, bob = company.issue("alice"), company.issue("whoever", upn="bob@example.org")
        assert await w.refusal(alice) == "the certificate is unknown here"
        fingerprint = await w.trust(company.pem)

        assert await w.who(alice) == "alice"
        assert "there is no such account" in await w.refusal(bob)
        await w.rule(mapping=CertificateMapping.USER_PRINCIPAL_NAME)
        assert await w.who(bob) == "bob@example.org"
        assert await w.refusal(alice) == "the certificate is unknown here"
        await w.rule(mapping=CertificateMapping.WHOLE)
        assert await w.refusal(alice) == "the certificate is unknown here"
        await w.rule(mapping=CertificateMapping.COMMON_NAME)
        await w.database.run(lambda tx: client_certificates.remove_authority(tx, fingerprint, "boss"))
        assert await w.refusal(alice) == "the certificate is unknown here"


async def test_only_the_ca_that_signed_a_certificate_counts_and_not_one_of_the_same_name(database_url: str) -> None:
    """An intermediate CA is trusted by itself or not at all; a certificate of a CA below a trusted one names nobody."""
    root = Issuer("The Company", about=NOW)
    below, twin = Issuer("A Department", about=NOW, above=root), Issuer("The Company", about=NOW)
    async with world(database_url) as w:
        await w.trust(root.pem)

        assert await w.refusal(twin.issue("alice")) == "the certificate is unknown here"
        assert await w.refusal(below.issue("alice")) == "the certificate is unknown here"
        await w.trust(below.pem)
        assert await w.who(below.issue("alice")) == "alice"


async def test_a_certificate_kept_for_an_account_stands_for_it_whatever_it_says_and_another_of_its_ca_does_not(database_url: str) -> None:
    issuer = Issuer("somebody", about=NOW)
    own, other = issuer.issue("bob@example.org"), issuer.issue("alice")
    async with world(database_url) as w:
        fingerprint = await w.give("alice", own.pem)
        await w.rule(mapping=CertificateMapping.WHOLE)

        assert (await w.who(own), fingerprint) == ("alice", own.fingerprint)
        assert await w.refusal(other) == "the certificate is unknown here"
        assert await w.give("alice", own.pem) == fingerprint
        with pytest.raises(AlreadyExists):
            await w.give("bob@example.org", own.pem)
        await w.database.run(lambda tx: client_certificates.remove_certificate(tx, "alice", fingerprint, "boss"))
        assert await w.refusal(own) == "the certificate is unknown here"


async def test_who_may_not_come_in_by_password_may_not_by_certificate(database_url: str) -> None:
    own = Issuer("itself", about=NOW).issue("x")
    async with world(database_url) as w:
        await w.give("alice", own.pem)

        await w.rule(enabled=False)
        assert await w.refusal(own) == "login by client certificate is switched off here"
        await w.rule(enabled=True)
        await w.database.run(lambda tx: accounts.change(tx, "alice", AccountChange(enabled=False), None, "boss", NOW))
        assert await w.refusal(own) == "the account is disabled"
        await w.database.run(lambda tx: accounts.change(tx, "alice", AccountChange(enabled=True), None, "boss", NOW))
        for _ in range(Lockout().attempts):
            await w.database.run(lambda tx: account_rows.count_failure(tx, "alice", SOURCE, Lockout(), NOW))
        with pytest.raises(LockedOut):
            await w.who(own)
        assert await w.who(own, NOW + Lockout().wait) == "alice"
        await w.database.run(lambda tx: accounts.delete(tx, "alice", None, "boss", NOW))
        assert await w.refusal(own, NOW + Lockout().wait) == "the certificate is unknown here"


async def test_a_certificate_counts_in_its_time_and_while_its_ca_does(database_url: str) -> None:
    company, short = Issuer("The Company", about=NOW), Issuer("A Short One", about=NOW, ends=2 * DAY)
    async with world(database_url) as w:
        await w.trust(company.pem)
        await w.trust(short.pem)
        early, late, orphan = company.issue("alice", begins=DAY), company.issue("alice", ends=DAY), short.issue("alice")

        assert (await w.refusal(early)).startswith("the certificate begins only at ")
        assert await w.who(late) == await w.who(orphan) == "alice"
        assert (await w.refusal(late, NOW + DAY)).startswith("the certificate ended at ")
        assert (await w.refusal(orphan, NOW + 2 * DAY)).startswith("the CA of the certificate ended at ")


async def test_our_own_ca_and_what_passes_for_it_vouch_for_no_account(database_url: str) -> None:
    """The CA in use, one that was replaced, another certificate of its key, and a CA of its name; nor one of a node's certificates."""
    async with world(database_url) as w:
        former = await w.database.run(lambda tx: identity.authority(tx, SEALER, DAY, NOW))
        now = await w.database.run(lambda tx: identity.replace_authority(tx, SEALER, DAY, NOW))
        name = str(now.certificate.subject.rfc4514_string()).removeprefix("CN=")
        again = Issuer("Another Name", about=NOW, key=now.key)
        node = now.issue_node("default", "alice", ec.generate_private_key(ec.SECP256R1()).public_key(), NOW)
        for text in (pem(now.certificate), pem(former.certificate), again.pem, Issuer(name, about=NOW).pem):
            with pytest.raises(Invalid):
                await w.trust(text)
        with pytest.raises(Invalid):
            await w.give("alice", pem(node))
        assert await w.database.run(client_certificates.authorities) == []


async def test_a_node_is_never_an_account_nor_an_account_a_node(database_url: str) -> None:
    """Though a trusted CA copies the node's name and serial, and though an account has the node's name."""
    ours = authority()
    async with world(database_url) as w:
        await w.database.run(partial(accounts.create, draft=AccountDraft("n1", Hashed("x"), Role.ADMINISTRATOR), by="boss", now=NOW))
        node = await enrolled(w.database, ours)
        forger = Issuer("A Forger", about=NOW)
        await w.trust(forger.pem)
        serial = x509.load_pem_x509_certificate(node.encode()).serial_number

        assert await w.who(node) == "node n1"
        assert await w.who(forger.issue("n1", serial=serial)) == "n1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "é",
        Issuer("a", about=NOW).pem + Issuer("b", about=NOW).pem,
        Issuer("a", about=NOW, ends=timedelta(hours=-1)).pem,
        Issuer("a", about=NOW).issue("x").pem,
        Issuer("a", about=NOW).pem + "-----BEGIN PRIVATE KEY-----\n",
    ],
)
async def test_what_is_no_ca_that_counts_is_not_trusted(database_url: str, text: str) -> None:
    async with world(database_url) as w:
        with pytest.raises(Invalid) as refused:
            await w.trust(text)

        assert "PRIVATE KEY" not in str(refused.value)
        assert await w.database.run(client_rows.trust_version) == 1


@pytest.mark.parametrize(
    "text",
    [
        Issuer("a", about=NOW).pem,
        Issuer("a", about=NOW).issue("x", use=ExtendedKeyUsageOID.SERVER_AUTH).pem,
        Issuer("a", about=NOW).issue("x", ends=timedelta(hours=-1)).pem,
    ],
)
async def test_what_no_client_can_show_is_kept_for_no_account(database_url: str, text: str) -> None:
    async with world(database_url) as w:
        with pytest.raises(Invalid):
            await w.give("alice", text)


async def test_what_is_trusted_is_bounded_and_each_change_is_seen_by_those_who_serve(database_url: str) -> None:
    async with world(database_url) as w:
        one = Issuer("itself", about=NOW).issue("x")
        await w.give("alice", one.pem)
        version, trusted = await w.database.run(client_certificates.trusted)
        await w.give("alice", one.pem)
        assert (version, trusted) == (2, [one.pem])
        assert await w.database.run(client_certificates.trust_version) == 2
        for _ in range(MOST - 1):
            await w.give("alice", Issuer("itself", about=NOW).issue("x").pem)

        with pytest.raises(InUse):
            await w.give("alice", Issuer("itself", about=NOW).issue("x").pem)
        for missing in ("0" * 64, "not hex", "0" * 63, ""):
            with pytest.raises(NotFound):
                await w.database.run(partial(client_certificates.remove_certificate, account="alice", fingerprint=missing, by="boss"))


async def test_a_certificate_that_only_tls_can_read_is_nobodys(database_url: str) -> None:
    """Two alternative names as extensions of their own: OpenSSL takes it, and RFC 5280, 4.2, forbids it."""
    company = Issuer("The Company", about=NOW)
    good = company.issue("alice", upn="bob@example.org")
    der = good.certificate.public_bytes(Encoding.DER)
    usage = bytes.fromhex("0603551d25")  # the object identifier of extended key usage, of the same length as the other's
    doubled = ssl.DER_cert_to_PEM_cert(der.replace(usage, bytes.fromhex("0603551d11"), 1))
    async with world(database_url) as w:
        await w.trust(company.pem)
        await w.rule(mapping=CertificateMapping.USER_PRINCIPAL_NAME)

        with pytest.raises(Unauthenticated) as refused:
            await w.who(doubled)
        with pytest.raises(Invalid):
            await w.give("alice", doubled)

    assert refused.value.reason == "the certificate cannot be read"
    with pytest.raises(Unauthenticated):
        presented("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
