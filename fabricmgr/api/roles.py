"""/v1/roles: what accounts may do, the predefined roles and those of one's own."""

from fastapi import APIRouter, Response

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Called, Paging, gone
from fabricmgr.domain.account import Role, privileges, role_name
from fabricmgr.services import roles

router = APIRouter(tags=["roles"])


class RoleCreate(Model):
    name: str
    privileges: list[str]


class RolePatch(Model):
    privileges: list[str]


class RoleView(View):
    name: str
    privileges: list[str]
    predefined: bool
    version: int

    @classmethod
    def of(cls, found: Role) -> "RoleView":
        return cls(name=found.value, privileges=sorted(found.privileges), predefined=found.predefined, version=found.version)


class RolePage(View):
    items: list[RoleView]
    next: str | None


@router.get("/v1/roles", response_model=RolePage)
async def list_roles(call: Called, page: Paging) -> Response:
    """All roles, by name."""
    found = await call.read(lambda tx: roles.list_all(tx, page))
    return call.shown(RolePage(items=[RoleView.of(each) for each in found.items], next=found.next))


@router.post("/v1/roles", response_model=RoleView, status_code=201)
async def create_role(call: Called, body: RoleCreate) -> Response:
    """Make a role."""
    name, wanted = role_name(body.name), privileges(body.privileges)
    made = await call.run(lambda tx: roles.create(tx, name, wanted, call.by, call.now))
    return call.shown(RoleView.of(made), made.version, location=f"/v1/roles/{name}")


@router.get("/v1/roles/{role}", response_model=RoleView)
async def show_role(call: Called, role: str) -> Response:
    """One role."""
    found = await call.read(lambda tx: roles.get(tx, role))
    return call.shown(RoleView.of(found), found.version)


@router.patch("/v1/roles/{role}", response_model=RoleView)
async def change_role(call: Called, role: str, body: RolePatch) -> Response:
    """Give it other privileges. Its accounts have them at once."""
    wanted, quoted = privileges(body.privileges), call.version("role", role)
    changed = await call.run(lambda tx: roles.change(tx, role, wanted, quoted, call.by, call.now))
    return call.shown(RoleView.of(changed), changed.version)


@router.delete("/v1/roles/{role}", status_code=204)
async def delete_role(call: Called, role: str) -> Response:
    """Remove a role that no account has."""
    quoted = call.version("role", role)
    await call.run(lambda tx: roles.delete(tx, role, quoted, call.by, call.now))
    return gone()
