"""/v1/accounts."""

from datetime import datetime

from fastapi import APIRouter, Response

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Called, Paging, gone
from fabricmgr.domain.account import Account, AccountChange, AccountDraft, account_name
from fabricmgr.domain.errors import Forbidden
from fabricmgr.services import accounts, roles
from fabricmgr.web.privileges import account_of

router = APIRouter(tags=["accounts"])


class AccountCreate(Model):
    name: str
    password: str
    role: str
    enabled: bool = True
    must_change: bool = False


class AccountPatch(Model):
    password: str | None = None
    role: str | None = None
    enabled: bool | None = None
    must_change: bool | None = None
    unlock: bool | None = None


class AccountView(View):
    name: str
    role: str
    enabled: bool
    must_change: bool
    created_at: datetime
    version: int

    @classmethod
    def of(cls, found: Account) -> "AccountView":
        return cls(
            name=found.name,
            role=found.role.value,
            enabled=found.enabled,
            must_change=found.must_change,
            created_at=found.created_at,
            version=found.version,
        )


class AccountPage(View):
    items: list[AccountView]
    next: str | None


@router.get("/v1/accounts", response_model=AccountPage)
async def list_accounts(call: Called, page: Paging) -> Response:
    """All accounts, by name."""
    found = await call.read(lambda tx: accounts.list_all(tx, page))
    return call.shown(AccountPage(items=[AccountView.of(each) for each in found.items], next=found.next))


@router.post("/v1/accounts", response_model=AccountView, status_code=201)
async def create_account(call: Called, body: AccountCreate) -> Response:
    """Make an account."""
    name = account_name(body.name, "name")
    wanted = await call.read(lambda tx: roles.named(tx, body.role))
    hashed = await call.parts.passwords.hashed(body.password)
    draft = AccountDraft(name, hashed, wanted, body.enabled, body.must_change)
    made = await call.run(lambda tx: accounts.create(tx, draft, call.by, call.now))
    return call.shown(AccountView.of(made), made.version, location=f"/v1/accounts/{name}")


@router.get("/v1/accounts/{account}", response_model=AccountView)
async def show_account(call: Called, account: str) -> Response:
    """One account. One's own is shown to everybody."""
    found = await call.read(lambda tx: accounts.get(tx, account))
    return call.shown(AccountView.of(found), found.version)


@router.patch("/v1/accounts/{account}", response_model=AccountView)
async def change_account(call: Called, account: str, body: AccountPatch) -> Response:
    """Change what is named. Of one's own account, without ConfigureUsers, the password alone."""
    asker, quoted = account_of(call.principal), call.version("account", account)
    named = {name for name, value in body.model_dump().items() if value is not None}
    if "ConfigureUsers" not in asker.privileges and named - {"password"}:
        raise Forbidden(asker.name, f"ConfigureUsers, to change {', '.join(sorted(named - {'password'}))}")
    if asker.must_change and named - {"password"}:
        raise Forbidden(asker.name, "a new password, before it may change anything else")
    wanted_role = body.role
    wanted = AccountChange(
        password=None if body.password is None else await call.parts.passwords.hashed(body.password),
        role=None if wanted_role is None else await call.read(lambda tx: roles.named(tx, wanted_role)),
        enabled=body.enabled,
        must_change=body.must_change,
        unlock=bool(body.unlock),
    )
    changed = await call.run(lambda tx: accounts.change(tx, account, wanted, quoted, call.by, call.now, session=asker.session))
    return call.shown(AccountView.of(changed), changed.version)


@router.delete("/v1/accounts/{account}", status_code=204)
async def delete_account(call: Called, account: str) -> Response:
    """Remove an account and its sessions."""
    quoted = call.version("account", account)
    await call.run(lambda tx: accounts.delete(tx, account, quoted, call.by, call.now))
    return gone()
