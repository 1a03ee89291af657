"""AccountService: who may come in, in which role, and what the roles may do (DSP0266, 13.3 and 13.4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fabricmgr import dmtf
from fabricmgr.domain.account import (
    LONGEST_PASSWORD,
    PRIVILEGES,
    SHORTEST_PASSWORD,
    Account,
    AccountChange,
    AccountDraft,
    CertificateMapping,
    ClientLogin,
    ClientLoginChange,
    Hashed,
    Lockout,
    Role,
    account_name,
    privileges,
    role_name,
)
from fabricmgr.domain.errors import Forbidden, Invalid, NotInList
from fabricmgr.redfish.body import Flag, Items, Json, Number, Object, Text
from fabricmgr.redfish.listing import whole
from fabricmgr.redfish.resource import Ask, Made, Resource
from fabricmgr.services import accounts, client_certificates, roles
from fabricmgr.store.tx import Tx
from fabricmgr.web.privileges import account_of
from fabricmgr.web.who import AccountPrincipal, Principal

SERVICE = "/redfish/v1/AccountService"
# The count begins anew when the wait is over, so that AccountLockoutCounterResetAfter is the same number.
_LOCKOUT = {"AccountLockoutThreshold": "lockout_attempts", "AccountLockoutDuration": "lockout_seconds"}
_MAPPED_BY = "CertificateMappingAttribute"
_TYPES = Items(Text(("Redfish",)))


# --- the service -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """basic: whether a password in each request is taken. login: whether a client certificate is."""

    lockout: Lockout
    basic: bool
    login: ClientLogin


async def get_service(ask: Ask) -> Service:
    async with ask.database.read() as tx:
        return _service(ask, await client_certificates.get_login(tx))


def _service(ask: Ask, login: ClientLogin) -> Service:
    return Service(login.lockout(ask.site.gate.lockout), ask.site.who.basic, login)


async def patch_service(ask: Ask, _found: Service, given: Json, version: int | None) -> Service:
    asked = given.get("MultiFactorAuth", {}).get("ClientCertificate", {})
    mapping = CertificateMapping(asked[_MAPPED_BY]) if _MAPPED_BY in asked else None
    for name, field in _LOCKOUT.items():
        if not 0 <= given.get(name, 0) <= client_certificates.LOCKOUT_MOST[field]:
            raise Invalid(name, given[name], f"0 to {client_certificates.LOCKOUT_MOST[field]}")
    wanted = ClientLoginChange(asked.get("Enabled"), mapping, *(given.get(name) for name in _LOCKOUT))
    by = ask.principal.actor
    changed = await ask.database.run(lambda tx: client_certificates.change_login(tx, wanted, version, by))
    ask.site.who.forget_certificates()
    return _service(ask, changed)


def service_body(service: Service) -> Json:
    seconds = int(service.lockout.wait.total_seconds())
    return {
        "Id": "AccountService",
        "Name": "Account service",
        "Status": {"State": "Enabled", "Health": "OK"},
        "ServiceEnabled": True,
        "LocalAccountAuth": "Enabled",
        "HTTPBasicAuth": "Enabled" if service.basic else "Disabled",
        "SupportedAccountTypes": ["Redfish"],
        "MinPasswordLength": SHORTEST_PASSWORD,
        "MaxPasswordLength": LONGEST_PASSWORD,
        "AccountLockoutThreshold": service.lockout.attempts,
        "AccountLockoutDuration": seconds,
        "AccountLockoutCounterResetAfter": seconds,
        "AccountLockoutCounterResetEnabled": True,
        "MultiFactorAuth": {"ClientCertificate": _client_certificate(service.login)},
        "Accounts": {"@odata.id": f"{SERVICE}/Accounts"},
        "Roles": {"@odata.id": f"{SERVICE}/Roles"},
        "PrivilegeMap": {"@odata.id": f"{SERVICE}/PrivilegeMap"},
    }


def _client_certificate(login: ClientLogin) -> Json:
    return {
        "Enabled": login.enabled,
        _MAPPED_BY: login.mapping.value,
        "RespondToUnauthenticatedClients": True,
        "Certificates": {"@odata.id": f"{SERVICE}/MultiFactorAuth/ClientCertificate/Certificates"},
    }


# --- accounts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """locked: too many wrong passwords, from somewhere."""

    account: Account
    locked: bool


async def _shown(tx: Tx, found: Account, ask: Ask) -> Shown:
    return Shown(found, bool(await accounts.locked(tx, [found.name], ask.site.gate.lockout, ask.now)))


async def get_account(ask: Ask) -> Shown:
    async with ask.database.read() as tx:
        return await _shown(tx, await accounts.get(tx, ask.params["account_id"]), ask)


async def account_members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        names = [each.name for each in await whole(partial(accounts.list_all, tx))]
    return names[skip:][:top], len(names)


async def load_accounts(ask: Ask, ids: Sequence[str]) -> Sequence[Shown | None]:
    async with ask.database.read() as tx:
        found = {each.name: each for each in await whole(partial(accounts.list_all, tx))}
        locked = await accounts.locked(tx, ids, ask.site.gate.lockout, ask.now)
    return [Shown(found[each], each in locked) if each in found else None for each in ids]


def account_body(shown: Shown) -> Json:
    found = shown.account
    return {
        "Id": found.name,
        "Name": f"Account {found.name}",
        "UserName": found.name,
        "Password": None,
        "AccountTypes": ["Redfish"],
        "RoleId": found.role.value,
        "Enabled": found.enabled,
        "Locked": shown.locked,
        "PasswordChangeRequired": found.must_change,
        "Certificates": {"@odata.id": f"{SERVICE}/Accounts/{found.name}/Certificates"},
        "Links": {"Role": {"@odata.id": f"{SERVICE}/Roles/{found.role.value}"}},
    }


async def _hashed(ask: Ask, password: str) -> Hashed:
    return await ask.site.gate.passwords.hashed(password, "Password")


async def _role(ask: Ask, name: str) -> Role:
    async with ask.database.read() as tx:
        return await roles.named(tx, name, "RoleId")


async def create_account(ask: Ask, given: Json) -> Made:
    draft = AccountDraft(
        account_name(given["UserName"], "UserName"),
        await _hashed(ask, given["Password"]),
        await _role(ask, given["RoleId"]),
        given.get("Enabled", True),
        given.get("PasswordChangeRequired", False),
    )
    made = await ask.database.run(lambda tx: accounts.create(tx, draft, ask.principal.actor, ask.now))
    return Made(made.name, Shown(made, False))


async def patch_account(ask: Ask, shown: Shown, given: Json, version: int | None) -> Shown:
    asker = account_of(ask.principal)
    if asker.must_change and set(given) != {"Password"}:
        raise Forbidden(asker.name, "a new password, before it may change anything else")
    if given.get("Locked"):
        raise NotInList("Locked", True, "false: accounts are locked by wrong passwords alone")
    wanted = AccountChange(
        password=await _hashed(ask, given["Password"]) if "Password" in given else None,
        role=await _role(ask, given["RoleId"]) if "RoleId" in given else None,
        enabled=given.get("Enabled"),
        must_change=given.get("PasswordChangeRequired"),
        unlock="Locked" in given,
    )

    async def use_case(tx: Tx) -> Shown:
        name, by = shown.account.name, ask.principal.actor
        return await _shown(tx, await accounts.change(tx, name, wanted, version, by, ask.now, session=asker.session), ask)

    changed = await ask.database.run(use_case)
    ask.site.who.forget_account(changed.account.name)
    return changed


async def delete_account(ask: Ask, shown: Shown, version: int | None) -> None:
    await ask.database.run(lambda tx: accounts.delete(tx, shown.account.name, version, ask.principal.actor, ask.now))
    ask.site.who.forget_account(shown.account.name)


def own_account(principal: Principal, shown: Shown) -> bool:
    """Whether it is the principal's."""
    return isinstance(principal, AccountPrincipal) and principal.name == shown.account.name


# --- roles -----------------------------------------------------------------------------------------------------------


async def get_role(ask: Ask) -> Role:
    async with ask.database.read() as tx:
        return await roles.get(tx, ask.params["role_id"])


async def role_members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        names = [each.value for each in await whole(partial(roles.list_all, tx))]
    return names[skip:][:top], len(names)


def role_body(found: Role) -> Json:
    return {
        "Id": found.value,
        "Name": f"Role {found.value}",
        "RoleId": found.value,
        "IsPredefined": found.predefined,
        "AssignedPrivileges": [each for each in PRIVILEGES if each in found.privileges],
    }


async def create_role(ask: Ask, given: Json) -> Made:
    name, wanted = role_name(given["RoleId"], "RoleId"), privileges(given.get("AssignedPrivileges", []), "AssignedPrivileges")
    made = await ask.database.run(lambda tx: roles.create(tx, name, wanted, ask.principal.actor, ask.now))
    return Made(made.value, made)


async def patch_role(ask: Ask, found: Role, given: Json, version: int | None) -> Role:
    wanted = privileges(given["AssignedPrivileges"], "AssignedPrivileges")
    return await ask.database.run(lambda tx: roles.change(tx, found.value, wanted, version, ask.principal.actor, ask.now))


async def delete_role(ask: Ask, found: Role, version: int | None) -> None:
    await ask.database.run(lambda tx: roles.delete(tx, found.value, version, ask.principal.actor, ask.now))


# --- what each privilege is for --------------------------------------------------------------------------------------


async def get_map(_ask: Ask) -> None:
    """Nothing of it is kept: it is what this code knows."""


def map_body(_: None) -> Json:
    """Of the same facts that every request is checked by (DSP0266, 13.4.2)."""
    return {
        "Id": "PrivilegeMap",
        "Name": f"What each operation asks, by {dmtf.privilege_registry()}",
        "PrivilegesUsed": list(PRIVILEGES),
        "OEMPrivilegesUsed": [],
        "Mappings": [_mapping(entity, table) for entity, table in sorted(dmtf.privileges_of_all().items())],
    }


def _mapping(entity: str, table: Mapping[str, list[list[str]]]) -> Json:
    found: Json = {"Entity": entity, "OperationMap": _operations({"HEAD": table["GET"], **table})}
    overrides = [
        {"Targets": [name], "OperationMap": _operations({"PATCH": needed})}
        for name, needed in dmtf.property_privileges(entity, "PATCH").items()
    ]
    above = [{"Targets": [name], "OperationMap": _operations(methods)} for name, methods in dmtf.subordinate_privileges(entity).items()]
    return {**found, **({"PropertyOverrides": overrides} if overrides else {}), **({"SubordinateOverrides": above} if above else {})}


def _operations(table: Mapping[str, list[list[str]]]) -> Json:
    return {method: [{"Privilege": each} for each in needed] for method, needed in sorted(table.items())}


_CLIENT_CERTIFICATE = Object({"Enabled": Flag(), _MAPPED_BY: Text(tuple(CertificateMapping))})
account_service = Resource(
    schema="AccountService",
    uri=SERVICE,
    get=get_service,
    body=service_body,
    version=lambda service: service.login.version,
    patch=patch_service,
    patchable=Object({"MultiFactorAuth": Object({"ClientCertificate": _CLIENT_CERTIFICATE}), **dict.fromkeys(_LOCKOUT, Number())}),
)
account = Resource(
    schema="ManagerAccount",
    uri="/redfish/v1/AccountService/Accounts/{account_id}",
    get=get_account,
    body=account_body,
    version=lambda shown: shown.account.version,
    members=account_members,
    load=load_accounts,
    collection_name="Accounts",
    patch=patch_account,
    patchable=Object(
        {
            "Password": Text(),
            "RoleId": Text(),
            "Enabled": Flag(),
            "Locked": Flag(),
            "PasswordChangeRequired": Flag(),
            "AccountTypes": _TYPES,
        }
    ),
    delete=delete_account,
    create=create_account,
    creatable=Object(
        {
            "UserName": Text(),
            "Password": Text(),
            "RoleId": Text(),
            "Enabled": Flag(),
            "PasswordChangeRequired": Flag(),
            "AccountTypes": _TYPES,
        },
        required=("UserName", "Password", "RoleId"),
    ),
    own=own_account,
)
role = Resource(
    schema="Role",
    uri="/redfish/v1/AccountService/Roles/{role_id}",
    get=get_role,
    body=role_body,
    version=lambda found: found.version,
    members=role_members,
    collection_name="Roles",
    patch=patch_role,
    patchable=Object({"AssignedPrivileges": Items(Text(PRIVILEGES))}, required=("AssignedPrivileges",)),
    delete=delete_role,
    create=create_role,
    creatable=Object({"RoleId": Text(), "AssignedPrivileges": Items(Text(PRIVILEGES))}, required=("RoleId",)),
)
privilege_map = Resource(schema="PrivilegeRegistry", uri="/redfish/v1/AccountService/PrivilegeMap", get=get_map, body=map_body)
