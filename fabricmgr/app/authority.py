"""The CA of this manager's database, and the key that opens it."""

from datetime import datetime
from pathlib import Path

from fabricmgr.services import identity
from fabricmgr.services.certificates import Authority
from fabricmgr.settings import ManagerSettings
from fabricmgr.store.sealing import Sealer, load_master_key
from fabricmgr.store.tx import Database


def master_key_file(settings: ManagerSettings) -> Path:
    """Where the key of all secrets lies."""
    return settings.master_key or settings.data_dir / "master-key"


def sealer_of(settings: ManagerSettings) -> Sealer:
    """Opens what lies sealed in the database. A key is made only where the operator named none. Raises SettingRefused."""
    return load_master_key(master_key_file(settings), create=settings.master_key is None)


async def find(settings: ManagerSettings, database: Database, now: datetime) -> Authority:
    """The CA, made where there is none. Raises SettingRefused, and DatabaseUnsuitable for a master key that does not fit."""
    sealer = sealer_of(settings)
    return await database.run(lambda tx: identity.authority(tx, sealer, settings.node_certificate_lifetime, now))
