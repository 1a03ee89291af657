"""Rows of what accounts log in with by client certificate: the rule, trusted CAs, and certificates of accounts."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from fabricmgr.domain.account import Account, CertificateMapping, ClientLogin, Trusted
from fabricmgr.domain.errors import NotFound, VersionConflict
from fabricmgr.store import account_rows
from fabricmgr.store.tables import account, account_certificate, client_authority, client_login
from fabricmgr.store.tx import Tx

_OWNED = select(account_certificate, account.c.name.label("account")).join(account, account.c.id == account_certificate.c.account_id)


def _login(row: Row[Any]) -> ClientLogin:
    return ClientLogin(row.enabled, CertificateMapping(row.mapping), row.version, row.lockout_attempts, row.lockout_seconds)


def _authority(row: Row[Any]) -> Trusted:
    return Trusted(row.fingerprint.hex(), row.pem, row.created_at)


def _owned(row: Row[Any]) -> Trusted:
    return Trusted(row.fingerprint.hex(), row.pem, row.created_at, row.account)


async def _only(tx: Tx, *, lock: bool) -> Row[Any]:
    asked = select(client_login)
    found = await tx.first(asked.with_for_update() if lock else asked)
    if found is None:
        raise NotFound("client login", "1")
    return found


async def login(tx: Tx) -> ClientLogin:
    return _login(await _only(tx, lock=False))


async def take_login(tx: Tx, quoted: int | None) -> ClientLogin:
    """Lock it for a change. Raises VersionConflict."""
    found = _login(await _only(tx, lock=True))
    if quoted is not None and quoted != found.version:
        raise VersionConflict("client login", "1", str(quoted), str(found.version))
    return found


async def change_login(tx: Tx, values: Mapping[str, Any]) -> ClientLogin:
    await tx.change(client_login.update().values(version=client_login.c.version + 1, **values))
    return await login(tx)


# --- what TLS has to believe -------------------------------------------------------------------------------------------


async def trust_version(tx: Tx) -> int:
    """It grows when what TLS has to believe changes."""
    return int(await tx.value(select(client_login.c.trust_version)))


async def trusted(tx: Tx) -> tuple[int, list[str]]:
    """That version, and all that TLS has to believe, PEM."""
    version = await trust_version(tx)
    rows = [*await tx.all(select(client_authority.c.pem)), *await tx.all(select(account_certificate.c.pem))]
    return version, [row.pem for row in rows]


async def _changed(tx: Tx) -> None:
    await tx.change(client_login.update().values(trust_version=client_login.c.trust_version + 1))


# --- CAs -------------------------------------------------------------------------------------------------------------


async def authorities(tx: Tx) -> list[Trusted]:
    """The oldest first."""
    rows = await tx.all(select(client_authority).order_by(client_authority.c.created_at, client_authority.c.fingerprint))
    return [_authority(row) for row in rows]


async def insert_authority(tx: Tx, wanted: Trusted) -> bool:
    """Gives back whether it is new."""
    row = {"fingerprint": bytes.fromhex(wanted.fingerprint), "pem": wanted.pem, "created_at": wanted.created_at}
    new = await tx.change(upsert(client_authority).values(row).on_conflict_do_nothing()) > 0
    if new:
        await _changed(tx)
    return new


async def delete_authority(tx: Tx, fingerprint: str) -> bool:
    gone = await tx.change(client_authority.delete().where(client_authority.c.fingerprint == bytes.fromhex(fingerprint))) > 0
    if gone:
        await _changed(tx)
    return gone


# --- certificates of accounts ------------------------------------------------------------------------------------------


async def certificates(tx: Tx, name: str) -> list[Trusted]:
    """Of one account, the oldest first."""
    asked = _OWNED.where(account.c.name == name).order_by(account_certificate.c.created_at, account_certificate.c.fingerprint)
    return [_owned(row) for row in await tx.all(asked)]


async def places(tx: Tx) -> list[Trusted]:
    """Of all accounts, by name."""
    rows = await tx.all(_OWNED.order_by(account.c.name, account_certificate.c.created_at, account_certificate.c.fingerprint))
    return [_owned(row) for row in rows]


async def owner(tx: Tx, fingerprint: str) -> Account | None:
    """Whose certificate it is."""
    row = await tx.first(_OWNED.where(account_certificate.c.fingerprint == bytes.fromhex(fingerprint)))
    return None if row is None else await account_rows.get(tx, row.account)


async def insert_certificate(tx: Tx, account_id: int, wanted: Trusted) -> bool:
    """Gives back whether it is new."""
    row = {"fingerprint": bytes.fromhex(wanted.fingerprint), "account_id": account_id, "pem": wanted.pem, "created_at": wanted.created_at}
    new = await tx.change(upsert(account_certificate).values(row).on_conflict_do_nothing()) > 0
    if new:
        await _changed(tx)
    return new


async def delete_certificate(tx: Tx, account_id: int, fingerprint: str) -> bool:
    wanted = account_certificate.c.fingerprint == bytes.fromhex(fingerprint)
    gone = await tx.change(account_certificate.delete().where(wanted, account_certificate.c.account_id == account_id)) > 0
    if gone:
        await _changed(tx)
    return gone


async def count(tx: Tx) -> int:
    """Authorities and certificates together."""
    found = [await tx.value(select(func.count()).select_from(table)) for table in (client_authority, account_certificate)]
    return sum(int(each) for each in found)
