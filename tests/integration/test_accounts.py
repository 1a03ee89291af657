"""Accounts, passwords, lockout and sessions on Postgres."""

import asyncio
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from fabricmgr.domain.account import Account, AccountChange, AccountDraft, AccountPrincipal, Lockout, Role
from fabricmgr.domain.errors import AlreadyExists, InUse, Invalid, LockedOut, NotFound, Unauthenticated, VersionConflict
from fabricmgr.domain.page import Page
from fabricmgr.services import accounts, sessions
from fabricmgr.services.accounts import FIRST_PASSWORD_FILE, Gate
from fabricmgr.services.passwords import Passwords
from fabricmgr.store.tables import account, outbox, session
from fabricmgr.store.tx import Database
from tests.support.database import NOW, opened

SECRET = "correct horse"
HALF_AN_HOUR = timedelta(minutes=30)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    made = Passwords(b"k" * 32)
    yield made
    made.close()


@asynccontextmanager
async def with_accounts(url: str, passwords: Passwords) -> AsyncIterator[Database]:
    """With the administrator anna and the operator otto, both with the same password."""
    async with opened(url) as database:
        hashed = await passwords.hashed(SECRET)
        for name, role in (("anna", Role.ADMINISTRATOR), ("otto", Role.OPERATOR)):
            await create(database, AccountDraft(name, hashed, role))
        yield database


async def create(database: Database, draft: AccountDraft) -> Account:
    return await database.run(lambda tx: accounts.create(tx, draft, "anna", NOW))


async def change(database: Database, name: str, wanted: AccountChange, quoted: int | None = None) -> Account:
    return await database.run(lambda tx: accounts.change(tx, name, wanted, quoted, "anna", NOW))


async def delete(database: Database, name: str) -> None:
    await database.run(lambda tx: accounts.delete(tx, name, None, "anna", NOW))


async def find(database: Database, token: str, at: datetime) -> AccountPrincipal:
    return await database.run(lambda tx: sessions.find(tx, token, HALF_AN_HOUR, at))


async def login(database: Database, who: AccountPrincipal) -> str:
    return (await database.run(lambda tx: sessions.open_session(tx, who, "192.0.2.9", NOW)))[1]


async def test_a_right_password_names_the_account_and_its_privileges(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        who = await Gate(database, passwords).authenticate("otto", SECRET, "192.0.2.9", NOW)

    assert (who.name, who.role) == ("otto", Role.OPERATOR)
    assert who.privileges == {"Login", "ConfigureComponents", "ConfigureSelf"}


@pytest.mark.parametrize(("name", "password"), [("otto", "wrong horse"), ("nobody", SECRET), ("ot\x00to", SECRET), ("otto", "\ud800wrong")])
async def test_a_wrong_name_and_a_wrong_password_get_one_answer(database_url: str, passwords: Passwords, name: str, password: str) -> None:
    async with with_accounts(database_url, passwords) as database:
        with pytest.raises(Unauthenticated) as refused:
            await Gate(database, passwords).authenticate(name, password, "192.0.2.9", NOW)

    assert refused.value.reason == "wrong account or password"


async def test_too_many_wrong_passwords_lock_the_account_for_that_source_alone(database_url: str, passwords: Passwords) -> None:
    lockout = Lockout(attempts=3, wait=timedelta(seconds=30))
    async with with_accounts(database_url, passwords) as database:
        gate = Gate(database, passwords, lockout)
        guesses = [gate.authenticate("otto", f"guess {n}", "198.51.100.1", NOW) for n in range(8)]
        answers = await asyncio.gather(*guesses, return_exceptions=True)

        with pytest.raises(LockedOut) as refused:
            await gate.authenticate("otto", SECRET, "198.51.100.1", NOW + timedelta(seconds=29))
        elsewhere = await gate.authenticate("otto", SECRET, "192.0.2.9", NOW)
        later = await gate.authenticate("otto", SECRET, "198.51.100.1", NOW + timedelta(seconds=30))

        async with database.read() as tx:
            told = await tx.all(select(outbox.c.about).where(outbox.c.what == "AccountLockedOut"))
    kinds = [type(answer).__name__ for answer in answers]
    assert (kinds.count("Unauthenticated"), kinds.count("LockedOut")) == (3, 5)
    assert refused.value.until == NOW + timedelta(seconds=30)
    assert elsewhere.name == later.name == "otto"
    assert [row.about["source"] for row in told] == ["198.51.100.1"]


async def test_a_remembered_password_costs_no_hash_and_a_changed_one_counts_at_once(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        gate = Gate(database, passwords)
        await gate.authenticate("otto", SECRET, "192.0.2.9", NOW)
        passwords.close()
        again = await gate.authenticate("otto", SECRET, "192.0.2.9", NOW)

        other = Passwords(b"o" * 32)
        await change(database, "otto", AccountChange(password=await other.hashed("another one")))
        with pytest.raises(RuntimeError, match="shutdown"):
            await gate.authenticate("otto", SECRET, "192.0.2.9", NOW)
        other.close()

    assert again.name == "otto"


async def test_a_disabled_account_comes_in_neither_by_password_nor_by_session(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        gate = Gate(database, passwords)
        token = await login(database, await gate.authenticate("otto", SECRET, "192.0.2.9", NOW))

        await change(database, "otto", AccountChange(enabled=False))

        with pytest.raises(Unauthenticated):
            await gate.authenticate("otto", SECRET, "192.0.2.9", NOW)
        with pytest.raises(Unauthenticated):
            await database.run(lambda tx: sessions.find(tx, token, HALF_AN_HOUR, NOW))


@pytest.mark.parametrize(
    "wanted", [AccountChange(enabled=False), AccountChange(role=Role.OPERATOR), None], ids=["disabled", "demoted", "deleted"]
)
async def test_the_last_administrator_stays(database_url: str, passwords: Passwords, wanted: AccountChange | None) -> None:
    async with with_accounts(database_url, passwords) as database:
        with pytest.raises(InUse):
            await (delete(database, "anna") if wanted is None else change(database, "anna", wanted))


async def test_two_administrators_cannot_remove_each_other_at_once(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        await change(database, "otto", AccountChange(role=Role.ADMINISTRATOR))

        answers = await asyncio.gather(delete(database, "anna"), delete(database, "otto"), return_exceptions=True)

        async with database.read() as tx:
            left = await accounts.list_all(tx, Page())
    assert len(left.items) == 1
    assert sum(answer is None for answer in answers) == 1


async def test_names_are_taken_once_and_versions_are_checked(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        with pytest.raises(AlreadyExists):
            await create(database, AccountDraft("otto", await passwords.hashed(SECRET), Role.READ_ONLY))
        changed = await change(database, "otto", AccountChange(role=Role.READ_ONLY), 1)
        with pytest.raises(VersionConflict):
            await change(database, "otto", AccountChange(role=Role.OPERATOR), 1)
        with pytest.raises(NotFound):
            await change(database, "nobody", AccountChange(enabled=True))

    assert (changed.role, changed.version) == (Role.READ_ONLY, 2)


@pytest.mark.parametrize("password", ["seven77", "x" * 65, "surrogate\ud800"])
async def test_a_password_that_breaks_the_rule_is_refused_and_not_shown(passwords: Passwords, password: str) -> None:
    with pytest.raises(Invalid) as refused:
        await passwords.hashed(password)

    assert password not in str(refused.value)


async def test_a_session_lasts_as_long_as_it_is_used(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        token = await login(database, await Gate(database, passwords).authenticate("otto", SECRET, "192.0.2.9", NOW))

        for minutes in (20, 40, 60):
            at = NOW + timedelta(minutes=minutes)
            assert (await find(database, token, at)).name == "otto"
        with pytest.raises(Unauthenticated):
            await database.run(lambda tx: sessions.find(tx, token, HALF_AN_HOUR, NOW + timedelta(minutes=90)))


async def test_a_token_is_stored_as_its_hash_and_dead_once_its_session_is_closed(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        token = await login(database, await Gate(database, passwords).authenticate("otto", SECRET, "192.0.2.9", NOW))
        who = await database.run(lambda tx: sessions.find(tx, token, HALF_AN_HOUR, NOW))
        assert who.session is not None
        opened_session = who.session

        async with database.read() as tx:
            stored = await tx.only(select(session))
            listed = await sessions.list_all(tx, HALF_AN_HOUR, NOW, Page())
        await database.run(lambda tx: sessions.close(tx, opened_session))
        with pytest.raises(Unauthenticated):
            await database.run(lambda tx: sessions.find(tx, token, HALF_AN_HOUR, NOW))
        with pytest.raises(NotFound):
            await database.run(lambda tx: sessions.close(tx, opened_session))

    assert len(bytes.fromhex(token)) == 32
    assert bytes.fromhex(token) not in stored.digest
    assert token.encode() not in stored.digest
    assert [(each.id, each.account) for each in listed.items] == [(opened_session, "otto")]


async def test_a_new_password_ends_all_sessions_but_the_one_that_asked(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        who = await Gate(database, passwords).authenticate("otto", SECRET, "192.0.2.9", NOW)
        mine, other = await login(database, who), await login(database, who)
        me = await database.run(lambda tx: sessions.find(tx, mine, HALF_AN_HOUR, NOW))
        wanted = AccountChange(password=await passwords.hashed("another one"))

        await database.run(lambda tx: accounts.change(tx, "otto", wanted, None, "otto", NOW, session=me.session))

        await database.run(lambda tx: sessions.find(tx, mine, HALF_AN_HOUR, NOW))
        with pytest.raises(Unauthenticated):
            await database.run(lambda tx: sessions.find(tx, other, HALF_AN_HOUR, NOW))


async def test_sessions_that_timed_out_are_forgotten(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        await login(database, await Gate(database, passwords).authenticate("otto", SECRET, "192.0.2.9", NOW))

        early = await database.run(lambda tx: sessions.expire(tx, HALF_AN_HOUR, NOW + timedelta(minutes=29)))
        late = await database.run(lambda tx: sessions.expire(tx, HALF_AN_HOUR, NOW + timedelta(minutes=30)))

    assert (early, late) == (0, 1)


async def test_the_first_administrators_password_stands_in_a_file_of_its_owner_and_need_not_be_changed(
    database_url: str, passwords: Passwords, tmp_path: Path
) -> None:
    async with opened(database_url) as database:
        path = await accounts.ensure_first_administrator(database, passwords, tmp_path, NOW)
        again = await accounts.ensure_first_administrator(database, passwords, tmp_path, NOW)

        assert path == tmp_path / FIRST_PASSWORD_FILE
        who = await Gate(database, passwords).authenticate("admin", path.read_text().strip(), "192.0.2.9", NOW)
    assert again is None
    assert (who.role, who.must_change) == (Role.ADMINISTRATOR, False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) >= 20


async def test_of_racing_managers_one_makes_the_first_administrator_and_its_file_is_the_one_left(
    database_url: str, passwords: Passwords, tmp_path: Path
) -> None:
    folders = [tmp_path / f"manager-{n}" for n in range(4)]
    async with opened(database_url) as database:
        made = await asyncio.gather(*(accounts.ensure_first_administrator(database, passwords, folder, NOW) for folder in folders))

        won = [path for path in made if path is not None]
        who = await Gate(database, passwords).authenticate("admin", won[0].read_text().strip(), "192.0.2.9", NOW)
    assert len(won) == 1
    assert who.name == "admin"
    assert [path for folder in folders for path in folder.iterdir()] == won


async def test_a_reset_on_the_machine_lets_a_locked_out_and_disabled_administrator_in(database_url: str, passwords: Passwords) -> None:
    async with with_accounts(database_url, passwords) as database:
        gate = Gate(database, passwords, Lockout(attempts=1))
        hashed = await passwords.hashed(SECRET)
        await create(database, AccountDraft("admin", hashed, Role.READ_ONLY, enabled=False))
        with pytest.raises(Unauthenticated):
            await gate.authenticate("admin", "wrong horse", "192.0.2.9", NOW)

        password = await accounts.reset(database, passwords, "admin", NOW)

        who = await gate.authenticate("admin", password, "192.0.2.9", NOW)
        with pytest.raises(NotFound):
            await accounts.reset(database, passwords, "nobody", NOW)
        async with database.read() as tx:
            hashes = [row.password_hash for row in await tx.all(select(account))]
    assert who.role == Role.ADMINISTRATOR
    assert all(each.startswith("$argon2id$") for each in hashes)


async def test_of_four_changes_of_a_role_with_one_version_one_wins_and_none_finds_the_account_missing(
    database_url: str, passwords: Passwords
) -> None:
    async with with_accounts(database_url, passwords) as database:
        made = await database.run(lambda tx: accounts.get(tx, "otto"))
        wanted = [AccountChange(role=role) for role in (Role.READ_ONLY, Role.ADMINISTRATOR, Role.READ_ONLY, Role.ADMINISTRATOR)]

        outcomes = await asyncio.gather(*(change(database, "otto", each, made.version) for each in wanted), return_exceptions=True)

        assert sorted(type(each).__name__ for each in outcomes) == ["Account", "VersionConflict", "VersionConflict", "VersionConflict"]
