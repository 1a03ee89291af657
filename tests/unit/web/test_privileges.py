"""The rule of the privilege table."""

import pytest

from fabricmgr.domain.account import AccountPrincipal, NodePrincipal, Role
from fabricmgr.domain.errors import FabricError, Forbidden, PasswordChangeRequired, Unauthenticated
from fabricmgr.domain.names import cluster_name, node_name
from fabricmgr.web import privileges, who
from fabricmgr.web.privileges import NODE, TABLE, check, requirement
from fabricmgr.web.who import Principal

NODE_PRINCIPAL = who.NodePrincipal.of(NodePrincipal(7, node_name("w1"), cluster_name("default"), "1", "m"))


def account(role: Role, *, must_change: bool = False, name: str = "alice") -> Principal:
    return who.AccountPrincipal.of(AccountPrincipal(1, name, role, must_change))


@pytest.mark.parametrize("row", TABLE)
def test_every_row_asks_for_privileges_that_exist_and_only_open_ones_let_anybody_in(row: tuple[str, str]) -> None:
    need = TABLE[row]

    assert need.any_of <= set(privileges.PRIVILEGES)
    assert need.open_to_all or need.node or need.any_of
    if need.open_to_all:
        check(need, Principal.anonymous(), {})
    else:
        with pytest.raises(Unauthenticated):
            check(need, Principal.anonymous(), {})


@pytest.mark.parametrize("row", [row for row, need in TABLE.items() if not need.open_to_all])
def test_an_account_that_must_change_its_password_reaches_its_own_account_and_session_alone(row: tuple[str, str]) -> None:
    principal = account(Role.ADMINISTRATOR, must_change=True)

    if row[1] == "/v1/sessions/current":
        check(TABLE[row], principal, {})
    else:
        with pytest.raises((PasswordChangeRequired, Forbidden)):
            check(TABLE[row], principal, {"account": "other"})


def test_ones_own_account_may_be_read_and_changed_but_not_deleted() -> None:
    reader = account(Role.READ_ONLY)

    for method in ("GET", "PATCH"):
        check(requirement(method, "/v1/accounts/{account}"), reader, {"account": "alice"})
        with pytest.raises(Forbidden):
            check(requirement(method, "/v1/accounts/{account}"), reader, {"account": "bob"})
    with pytest.raises(Forbidden):
        check(requirement("DELETE", "/v1/accounts/{account}"), reader, {"account": "alice"})


def test_a_node_passes_its_own_routes_and_an_administrator_does_not() -> None:
    check(NODE, NODE_PRINCIPAL, {})

    with pytest.raises(Forbidden):
        check(NODE, account(Role.ADMINISTRATOR), {})


def test_head_asks_what_get_asks_and_a_route_without_a_row_is_a_mistake() -> None:
    assert requirement("HEAD", "/v1/pools") is requirement("GET", "/v1/pools")

    with pytest.raises(KeyError):
        requirement("GET", "/v1/secrets")


def test_roles_are_redfishs() -> None:
    assert Role.ADMINISTRATOR.privileges == set(privileges.PRIVILEGES)
    assert Role.READ_ONLY.privileges == {"Login", "ConfigureSelf"}


@pytest.mark.parametrize("give", [privileges.account_of, privileges.node_of])
def test_nobody_is_neither_account_nor_node(give: object) -> None:
    assert callable(give)
    with pytest.raises(FabricError):
        give(Principal.anonymous())
