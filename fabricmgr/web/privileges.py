"""One table: what each route of /v1 asks of its caller. Raw routes and FastAPI's use it alike; a route without a row is not served.

Privileges are Redfish's (DSP0266, 13.5). What writes addresses is ConfigureComponents; what makes or ends an identity is
ConfigureManager or ConfigureUsers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fabricmgr.domain import account as accounts
from fabricmgr.domain.errors import Forbidden, PasswordChangeRequired, Unauthenticated
from fabricmgr.web.who import AccountPrincipal, Anonymous, NodePrincipal, Principal

PRIVILEGES = ("Login", "ConfigureManager", "ConfigureUsers", "ConfigureComponents", "ConfigureSelf")


@dataclass(frozen=True)
class Requirement:
    """any_of: an account needs one of these. own: the path parameter that names an account which may do it with ConfigureSelf alone.

    node: a node's agent, and nobody else. open_to_all: no credentials are looked at. changing: allowed to an account that must change
    its password first (on its own account)."""

    any_of: frozenset[str] = frozenset()
    own: str = ""
    node: bool = False
    open_to_all: bool = False
    changing: bool = False


def _any(*privileges: str) -> Requirement:
    return Requirement(frozenset(privileges))


OPEN = Requirement(open_to_all=True)
NODE = Requirement(node=True)
LOGIN = _any("Login")
COMPONENTS = _any("ConfigureComponents")
MANAGER = _any("ConfigureManager")
USERS = _any("ConfigureUsers")
SELF_OR_USERS = Requirement(frozenset({"ConfigureUsers"}), own="account", changing=True)
SELF_OR_READ_USERS = Requirement(frozenset({"ConfigureManager", "ConfigureUsers"}), own="account", changing=True)
# Whoever has a session may end it.
OWN_SESSION = Requirement(frozenset({"Login", "ConfigureSelf"}), changing=True)

TABLE: Mapping[tuple[str, str], Requirement] = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): LOGIN,
    ("GET", "/v1/openapi.json"): OPEN,
    ("GET", "/v1/authorities"): OPEN,
    ("POST", "/v1/sessions"): OPEN,
    ("GET", "/v1/sessions/current"): OWN_SESSION,
    ("DELETE", "/v1/sessions/current"): OWN_SESSION,
    ("GET", "/v1/accounts"): LOGIN,
    ("POST", "/v1/accounts"): USERS,
    ("GET", "/v1/accounts/{account}"): SELF_OR_READ_USERS,
    ("PATCH", "/v1/accounts/{account}"): SELF_OR_USERS,
    ("DELETE", "/v1/accounts/{account}"): USERS,
    ("GET", "/v1/accounts/{account}/certificates"): MANAGER,
    ("POST", "/v1/accounts/{account}/certificates"): MANAGER,
    ("DELETE", "/v1/accounts/{account}/certificates/{certificate}"): MANAGER,
    ("GET", "/v1/client-login"): LOGIN,
    ("PATCH", "/v1/client-login"): USERS,
    ("GET", "/v1/client-authorities"): MANAGER,
    ("POST", "/v1/client-authorities"): MANAGER,
    ("DELETE", "/v1/client-authorities/{certificate}"): MANAGER,
    ("GET", "/v1/roles"): LOGIN,
    ("POST", "/v1/roles"): MANAGER,
    ("GET", "/v1/roles/{role}"): LOGIN,
    ("PATCH", "/v1/roles/{role}"): MANAGER,
    ("DELETE", "/v1/roles/{role}"): MANAGER,
    ("GET", "/v1/clusters"): LOGIN,
    ("POST", "/v1/clusters"): COMPONENTS,
    ("GET", "/v1/clusters/{cluster}"): LOGIN,
    ("PATCH", "/v1/clusters/{cluster}"): COMPONENTS,
    ("DELETE", "/v1/clusters/{cluster}"): COMPONENTS,
    ("DELETE", "/v1/clusters/{cluster}/api"): COMPONENTS,
    ("GET", "/v1/clusters/{cluster}/explain/pods/{namespace}/{name}"): LOGIN,
    ("GET", "/v1/clusters/{cluster}/explain/services/{namespace}/{name}"): LOGIN,
    ("POST", "/v1/clusters/{cluster}/simulate"): LOGIN,
    ("GET", "/v1/workloads/{cluster}/{namespace}/{name}/peers"): LOGIN,
    ("GET", "/v1/services"): LOGIN,
    ("GET", "/v1/services/{cluster}/{namespace}/{name}"): LOGIN,
    ("GET", "/v1/clusters/{cluster}/networks"): LOGIN,
    ("POST", "/v1/clusters/{cluster}/networks"): COMPONENTS,
    ("GET", "/v1/clusters/{cluster}/networks/{network}"): LOGIN,
    ("PATCH", "/v1/clusters/{cluster}/networks/{network}"): COMPONENTS,
    ("DELETE", "/v1/clusters/{cluster}/networks/{network}"): COMPONENTS,
    ("GET", "/v1/clusters/{cluster}/zones"): LOGIN,
    ("POST", "/v1/clusters/{cluster}/zones"): COMPONENTS,
    ("GET", "/v1/clusters/{cluster}/zones/{zone}"): LOGIN,
    ("PATCH", "/v1/clusters/{cluster}/zones/{zone}"): COMPONENTS,
    ("DELETE", "/v1/clusters/{cluster}/zones/{zone}"): COMPONENTS,
    ("GET", "/v1/endpoints"): LOGIN,
    ("POST", "/v1/endpoints"): COMPONENTS,
    ("GET", "/v1/endpoints/{endpoint}"): LOGIN,
    ("PATCH", "/v1/endpoints/{endpoint}"): COMPONENTS,
    ("DELETE", "/v1/endpoints/{endpoint}"): COMPONENTS,
    ("GET", "/v1/clusters/{cluster}/nodes"): LOGIN,
    ("POST", "/v1/clusters/{cluster}/nodes"): MANAGER,
    ("GET", "/v1/clusters/{cluster}/nodes/{node}"): LOGIN,
    ("DELETE", "/v1/clusters/{cluster}/nodes/{node}"): MANAGER,
    ("POST", "/v1/clusters/{cluster}/nodes/{node}/token"): MANAGER,
    ("POST", "/v1/clusters/{cluster}/nodes/{node}/revoke"): MANAGER,
    ("POST", "/v1/clusters/{cluster}/nodes/{node}/gone"): COMPONENTS,
    ("GET", "/v1/pools"): LOGIN,
    ("POST", "/v1/pools"): COMPONENTS,
    ("GET", "/v1/pools/{pool}"): LOGIN,
    ("PATCH", "/v1/pools/{pool}"): COMPONENTS,
    ("DELETE", "/v1/pools/{pool}"): COMPONENTS,
    ("POST", "/v1/pools/{pool}/prefixes"): COMPONENTS,
    ("DELETE", "/v1/pools/{pool}/prefixes/{address}/{length}"): COMPONENTS,
    ("POST", "/v1/pools/{pool}/reservations"): COMPONENTS,
    ("DELETE", "/v1/pools/{pool}/reservations/{address}/{length}"): COMPONENTS,
    ("GET", "/v1/pools/{pool}/usage"): LOGIN,
    ("GET", "/v1/pools/{pool}/blocks"): LOGIN,
    ("POST", "/v1/pools/{pool}/allocations"): COMPONENTS,
    ("GET", "/v1/pools/{pool}/allocations/{owner}"): LOGIN,
    ("PUT", "/v1/pools/{pool}/allocations/{owner}"): COMPONENTS,
    ("DELETE", "/v1/pools/{pool}/allocations/{owner}"): COMPONENTS,
    ("GET", "/v1/allocations"): LOGIN,
    ("GET", "/v1/history"): LOGIN,
    ("GET", "/v1/events"): LOGIN,
    ("GET", "/v1/tasks"): LOGIN,
    ("GET", "/v1/tasks/{task}"): LOGIN,
    ("DELETE", "/v1/tasks/{task}"): MANAGER,
    ("POST", "/v1/enrol"): OPEN,
    ("POST", "/v1/nodes/self/certificate"): NODE,
    ("POST", "/v1/nodes/self/hello"): NODE,
    ("POST", "/v1/nodes/self/reports"): NODE,
    ("POST", "/v1/nodes/self/blocks"): NODE,
    ("POST", "/v1/nodes/self/announcing"): NODE,
    ("GET", "/v1/nodes/self/desired"): NODE,
    ("PUT", "/v1/attachments/{network}/{container}/{ifname}"): NODE,
    ("DELETE", "/v1/attachments/{network}/{container}/{ifname}"): NODE,
}


def requirement(method: str, template: str) -> Requirement:
    """What a route asks. HEAD asks what GET does. Raises KeyError for a route that has no row, so that it cannot be served."""
    return TABLE["GET" if method == "HEAD" else method, template]


def check(need: Requirement, principal: Principal, parameters: Mapping[str, str]) -> None:
    """Let the principal pass, or raise Unauthenticated, Forbidden or PasswordChangeRequired."""
    if need.open_to_all:
        return
    if isinstance(principal, Anonymous):
        raise Unauthenticated("no credentials were given")
    if need.node or isinstance(principal, NodePrincipal):
        _check_node(need, principal)
        return
    _check_account(need, principal, own=bool(need.own) and parameters.get(need.own) == principal.name)


def _check_node(need: Requirement, principal: Principal) -> None:
    if not need.node:
        raise Forbidden(principal.actor, "a node reaches nothing but its own blocks and attachments")
    if not isinstance(principal, NodePrincipal):
        raise Forbidden(principal.actor, "only a node's agent may do this, by its certificate")


def _check_account(need: Requirement, principal: Principal, *, own: bool) -> None:
    if principal.must_change_password and not (need.changing and (own or not need.own)):
        raise PasswordChangeRequired(principal.name)
    sufficient = need.any_of | {"ConfigureSelf"} if own else need.any_of
    if not sufficient & principal.privileges:
        raise Forbidden(principal.actor, " or ".join(sorted(need.any_of)))


def account_of(principal: Principal) -> accounts.AccountPrincipal:
    """The principal of a route that only accounts pass."""
    if not isinstance(principal, AccountPrincipal):
        raise Forbidden(principal.actor, "an account is needed")
    return principal.account


def node_of(principal: Principal) -> accounts.NodePrincipal:
    """The principal of a route that only nodes pass."""
    if not isinstance(principal, NodePrincipal):
        raise Forbidden(principal.actor, "only a node's agent may do this, by its certificate")
    return principal.node
