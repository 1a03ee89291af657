"""Accounts that log in by client certificate: by one that is kept for the account, or by one of a trusted CA that names it."""

import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fabricmgr.domain.account import (
    Account,
    AccountPrincipal,
    CertificateMapping,
    ClientLogin,
    ClientLoginChange,
    Lockout,
    Presented,
    Trusted,
)
from fabricmgr.domain.errors import AlreadyExists, InUse, Invalid, LockedOut, NotFound, Unauthenticated
from fabricmgr.domain.events import (
    AccountCertificateAdded,
    AccountCertificateRemoved,
    ClientAuthorityAdded,
    ClientAuthorityRemoved,
    ClientLoginChanged,
)
from fabricmgr.services import identity
from fabricmgr.services.certificates import pem
from fabricmgr.services.offered import LARGEST, issued
from fabricmgr.store import account_rows, client_rows
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Tx

LOCKOUT_MOST = {"lockout_attempts": 1000, "lockout_seconds": 86400}
MOST = 200  # authorities and certificates that are kept: each is tried in handshakes of strangers
UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_UTF8 = 0x0C  # DER's tag of a UTF8String
_SHORT = 0x80  # DER: lengths from here on take more than one octet
_FINGERPRINT = 64  # hex digits

# The library reads lazily and strictly: what TLS has taken may still fail here, at any look.
_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)

Ours = Sequence[x509.Certificate]


async def ours(tx: Tx, sealer: Sealer, now: datetime) -> Ours:
    """Our CAs, the present one and the former ones: they vouch for nodes, never for accounts."""
    found = await identity.authority(tx, sealer, timedelta(days=1), now)
    return (found.certificate, *found.former)


def presented(text: str) -> Presented:
    """What TLS hands over, PEM. Raises Unauthenticated for what only TLS can read."""
    try:
        return Presented(_fingerprint(x509.load_pem_x509_certificate(text.encode())), text)
    except _UNREADABLE:
        raise Unauthenticated("the certificate cannot be read") from None


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


# --- the rule --------------------------------------------------------------------------------------------------------


async def get_login(tx: Tx) -> ClientLogin:
    """Whether certificates are taken, what of them names an account, and the lockout that all managers share."""
    return await client_rows.login(tx)


async def change_login(tx: Tx, wanted: ClientLoginChange, if_version: int | None, by: str) -> ClientLogin:
    """Raises VersionConflict, and Invalid for a lockout that cannot be."""
    for name, most in LOCKOUT_MOST.items():
        if not 0 <= (getattr(wanted, name) or 0) <= most:
            raise Invalid(name, getattr(wanted, name), f"0 to {most}")
    found = await client_rows.take_login(tx, if_version)
    values = {name: new for name, new in vars(wanted).items() if new is not None and new != getattr(found, name)}
    if not values:
        return found
    tx.emit(ClientLoginChanged(tuple(values), by))
    return await client_rows.change_login(tx, values)


# --- what is trusted ---------------------------------------------------------------------------------------------------


async def authorities(tx: Tx) -> list[Trusted]:
    """CAs whose certificates name accounts, the oldest first."""
    return await client_rows.authorities(tx)


async def add_authority(tx: Tx, text: str, ours: Ours, by: str, now: datetime, field: str = "certificate") -> Trusted:
    """Trust a CA (PEM, one certificate). The same again changes nothing. Raises Invalid, also for our own CA, and InUse."""
    found = _one(text, field)
    basic = _extension(found, x509.BasicConstraints, field)
    if not isinstance(basic, x509.BasicConstraints) or not basic.ca:
        raise Invalid(field, "(not shown)", "the certificate of a CA; this one may sign no others (basic constraints)")
    _check_foreign(found, ours, field)
    _check_time(found, now, field)
    await _check_room(tx)
    wanted = Trusted(_fingerprint(found), pem(found), now)
    if await client_rows.insert_authority(tx, wanted):
        tx.emit(ClientAuthorityAdded(wanted.fingerprint, by))
        return wanted
    return next(each for each in await client_rows.authorities(tx) if each.fingerprint == wanted.fingerprint)


async def remove_authority(tx: Tx, fingerprint: str, by: str) -> None:
    """Its certificates count no more from the next request on, also on connections that are there. Raises NotFound."""
    if not _is_fingerprint(fingerprint) or not await client_rows.delete_authority(tx, fingerprint):
        raise NotFound("certificate", fingerprint)
    tx.emit(ClientAuthorityRemoved(fingerprint, by))


async def certificates(tx: Tx, account: str) -> list[Trusted]:
    """Those kept for an account, the oldest first. Raises NotFound for an account that is not there."""
    await account_rows.get(tx, account)
    return await client_rows.certificates(tx, account)


async def add_certificate(tx: Tx, account: str, text: str, ours: Ours, by: str, now: datetime, field: str = "certificate") -> Trusted:
    """Let whoever has this certificate's key log in as the account. The same again changes nothing.

    Raises NotFound, Invalid, InUse, and AlreadyExists for one that is another account's."""
    owner = await account_rows.take(tx, account, None)
    found = _one(text, field)
    if any(issued(found, each) for each in ours):
        raise Invalid(field, "(not shown)", "a certificate of another CA than this manager's own, which vouches for nodes alone")
    _check_foreign(found, ours, field)
    _check_use(found, field)
    _check_time(found, now, field)
    await _check_room(tx)
    wanted = Trusted(_fingerprint(found), pem(found), now, account)
    if await client_rows.insert_certificate(tx, owner.id, wanted):
        tx.emit(AccountCertificateAdded(account, wanted.fingerprint, by))
        return wanted
    kept = next((each for each in await client_rows.certificates(tx, account) if each.fingerprint == wanted.fingerprint), None)
    if kept is None:
        raise AlreadyExists("certificate", wanted.fingerprint)
    return kept


async def remove_certificate(tx: Tx, account: str, fingerprint: str, by: str) -> None:
    """It counts no more from the next request on. Raises NotFound."""
    owner = await account_rows.take(tx, account, None)
    if not _is_fingerprint(fingerprint) or not await client_rows.delete_certificate(tx, owner.id, fingerprint):
        raise NotFound("certificate", fingerprint)
    tx.emit(AccountCertificateRemoved(account, fingerprint, by))


async def places(tx: Tx) -> list[Trusted]:
    """Every certificate of an account, by the account's name."""
    return await client_rows.places(tx)


async def trust_version(tx: Tx) -> int:
    """It grows whenever what TLS has to believe changes."""
    return await client_rows.trust_version(tx)


async def trusted(tx: Tx) -> tuple[int, list[str]]:
    """That version, and all that TLS has to believe beside our own CAs, PEM."""
    return await client_rows.trusted(tx)


def _is_fingerprint(text: str) -> bool:
    return len(text) == _FINGERPRINT and all(each in "0123456789abcdef" for each in text)


async def _check_room(tx: Tx) -> None:
    if await client_rows.count(tx) >= MOST:
        raise InUse("certificate", "another", f"{MOST} are kept already: trust a CA instead of each certificate, or remove some")


def _one(text: str, field: str) -> x509.Certificate:
    expected = "one certificate, PEM, without its key"
    if len(text) > LARGEST or "PRIVATE KEY" in text:
        raise Invalid(field, "(not shown)", expected)
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except (ValueError, UnicodeEncodeError):
        raise Invalid(field, "(not shown)", expected) from None
    if len(found) != 1:
        raise Invalid(field, f"{len(found)} certificates", expected)
    _try_out(found[0], field)
    return found[0]


def _try_out(found: x509.Certificate, field: str) -> None:
    """Every worker's TLS has to take it: what it cannot read must not stand in the way of all else that is trusted."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem(found))
        _look_at_all(found)
    except (ssl.SSLError, *_UNREADABLE):
        raise Invalid(field, "(not shown)", "a certificate that can be read here, all of it") from None


def _look_at_all(found: x509.Certificate) -> tuple[object, ...]:
    """What pages show of it, so that none fails later."""
    return _key(found), found.subject.rfc4514_string(), found.issuer.rfc4514_string(), list(found.extensions), found.version


def _check_foreign(found: x509.Certificate, ours: Ours, field: str) -> None:
    """By name and by key: TLS looks issuers up by name, and a CA is its key, whatever certificate is made of it."""
    for each in ours:
        if found.subject == each.subject or _key(found) == _key(each) or issued(found, each):
            raise Invalid(field, "(not shown)", "a certificate of another CA than this manager's own, which vouches for nodes alone")


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_use(found: x509.Certificate, field: str) -> None:
    basic = _extension(found, x509.BasicConstraints, field)
    if isinstance(basic, x509.BasicConstraints) and basic.ca:
        raise Invalid(field, "(not shown)", "a client's certificate; this is a CA's, which may be trusted for all accounts")
    usage = _extension(found, x509.ExtendedKeyUsage, field)
    allowed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if isinstance(usage, x509.ExtendedKeyUsage) and not allowed & {*usage}:
        raise Invalid(field, "(not shown)", "a certificate for clients; this one is not (extended key usage)")


def _check_time(found: x509.Certificate, now: datetime, field: str) -> None:
    if found.not_valid_after_utc <= now:
        ended = found.not_valid_after_utc.isoformat(timespec="seconds")
        raise Invalid(field, "(not shown)", f"a certificate that counts still; this one ended at {ended}")


def _extension(found: x509.Certificate, kind: type[x509.ExtensionType], field: str) -> x509.ExtensionType | None:
    try:
        return found.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except ValueError:
        raise Invalid(field, "(not shown)", "a certificate whose extensions can be read") from None


# --- coming in -------------------------------------------------------------------------------------------------------


async def account_of(tx: Tx, shown: Presented, source: str, lockout: Lockout, now: datetime) -> AccountPrincipal:
    """Whose certificate it is. Nodes' certificates are not looked for here.

    Raises Unauthenticated for one that is unknown, has ended, or names no account that may come in; LockedOut as for passwords."""
    login = await client_rows.login(tx)
    certificate = x509.load_pem_x509_certificate(shown.pem.encode())
    found = await client_rows.owner(tx, shown.fingerprint) or await _named(tx, certificate, login.mapping, now)
    if found is None:
        raise Unauthenticated("the certificate is unknown here")
    if not login.enabled:
        raise Unauthenticated("login by client certificate is switched off here")
    _check_counts(certificate, "the certificate", now)
    if not found.enabled:
        raise Unauthenticated("the account is disabled")
    failed = await account_rows.failures(tx, found.name, source)
    rule = login.lockout(lockout)
    if failed is not None and rule.holds(*failed, now):
        raise LockedOut(found.name, failed[1] + rule.wait)
    return AccountPrincipal(found.id, found.name, found.role, found.must_change, certificate=shown.fingerprint)


async def _named(tx: Tx, certificate: x509.Certificate, mapping: CertificateMapping, now: datetime) -> Account | None:
    """By what the certificate says, where a trusted CA signed it: TLS says only that somebody believed did, which may be our own."""
    kept = [x509.load_pem_x509_certificate(each.pem.encode()) for each in await client_rows.authorities(tx)]
    try:
        name = _name(certificate, mapping)
        signers = [each for each in kept if issued(certificate, each)]
    except _UNREADABLE:
        raise Unauthenticated("the certificate cannot be read") from None
    if not name or not signers:
        return None
    counting = [each for each in signers if each.not_valid_before_utc <= now < each.not_valid_after_utc]
    if not counting:
        _check_counts(signers[0], "the CA of the certificate", now)
    known = await account_rows.find(tx, name)
    if known is None:
        raise Unauthenticated(f"the certificate names {name!r}, and there is no such account")
    return known[0]


def _name(certificate: x509.Certificate, mapping: CertificateMapping) -> str:
    if mapping is CertificateMapping.COMMON_NAME:
        found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        # Two names would leave it to us whom to believe.
        return _text(found[0].value) if len(found) == 1 else ""
    if mapping is CertificateMapping.USER_PRINCIPAL_NAME:
        return _principal_name(certificate)
    return ""


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) and "\0" not in value else ""


def _principal_name(certificate: x509.Certificate) -> str:
    """A UserPrincipalName: a UTF8String in an otherName of the alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    found = [each.value for each in names.get_values_for_type(x509.OtherName) if each.type_id == UPN]
    if len(found) != 1:
        return ""
    value = found[0]
    whole = len(value) > 2 and value[0] == _UTF8 and value[1] < _SHORT and len(value) == value[1] + 2
    try:
        return _text(value[2:].decode()) if whole else ""
    except UnicodeDecodeError:
        return ""


def _check_counts(certificate: x509.Certificate, what: str, now: datetime) -> None:
    if certificate.not_valid_after_utc <= now:
        raise Unauthenticated(f"{what} ended at {certificate.not_valid_after_utc.isoformat(timespec='seconds')}")
    if certificate.not_valid_before_utc > now:
        raise Unauthenticated(f"{what} begins only at {certificate.not_valid_before_utc.isoformat(timespec='seconds')}")
