"""Secrets at rest: AES-256-GCM under one master key, which lies in a file beside the database and never in it."""

import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from fabricmgr.domain.errors import DatabaseUnsuitable, SettingRefused
from fabricmgr.store.tables import secret
from fabricmgr.store.tx import Tx

KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2.2: random ones of 96 bits


@dataclass(frozen=True, repr=False)
class Sealer:
    """Seals and opens. A secret's name is authenticated with it, so that nobody can swap two of them."""

    key: bytes

    def seal(self, name: str, text: bytes, chance: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
        """Nonce first."""
        nonce = chance(_NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, text, name.encode())

    def open(self, name: str, sealed: bytes) -> bytes:
        """Raises DatabaseUnsuitable when it was sealed under another key, or changed."""
        try:
            return AESGCM(self.key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except InvalidTag:
            raise DatabaseUnsuitable(
                f"its secret {name!r} was sealed under another master key",
                "give all managers of a database the same master key file; it belongs into the backup",
            ) from None


def load_master_key(path: Path, *, create: bool, chance: Callable[[int], bytes] = secrets.token_bytes) -> Sealer:
    """Read the key; create: make the file (0600) where there is none. Managers that race for it all get the first one's.

    Raises SettingRefused for a file that others can read, or that holds no key."""
    if create and not path.exists():
        _create(path, chance(KEY_BYTES).hex())
    try:
        if path.stat().st_mode & 0o077:
            raise SettingRefused("master_key", str(path), "a file that its owner alone can read (chmod 600)")
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise SettingRefused("master_key", str(path), f"a file with {2 * KEY_BYTES} hex digits ({error})") from None
    if len(key) != KEY_BYTES:
        raise SettingRefused("master_key", str(path), f"a file with {2 * KEY_BYTES} hex digits")
    return Sealer(key)


def _create(path: Path, text: str) -> None:
    """Whole or not at all: written aside, then linked, which fails when another was quicker."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        Path(aside).unlink()


async def find(tx: Tx, sealer: Sealer, name: str) -> bytes | None:
    """An opened secret. Raises DatabaseUnsuitable under another master key."""
    sealed = await tx.value(select(secret.c.sealed).where(secret.c.name == name))
    return None if sealed is None else sealer.open(name, sealed)


async def keep_first(tx: Tx, sealer: Sealer, name: str, text: bytes, now: datetime) -> bytes:
    """Store it unless there is one. Gives back the one that is stored: of racing managers all get the same."""
    row = {"name": name, "sealed": sealer.seal(name, text), "at": now}
    await tx.change(upsert(secret).values(row).on_conflict_do_nothing())
    kept = await find(tx, sealer, name)
    if kept is None:
        raise RuntimeError("a secret was deleted while it was stored")
    return kept


async def replace(tx: Tx, sealer: Sealer, name: str, text: bytes, now: datetime) -> None:
    """Store it in the old one's place."""
    row = {"name": name, "sealed": sealer.seal(name, text), "at": now}
    wanted = upsert(secret).values(row)
    await tx.change(wanted.on_conflict_do_update(index_elements=["name"], set_={"sealed": row["sealed"], "at": now}))
