"""A cluster whose agents come from our manifests, and a manager that has the rights of our roles, as docs/kubernetes.md installs both."""

from collections.abc import Iterator

import pytest

from tests.support.kube import manifests, objects, rights
from tests.support.kube.cluster import Cluster, Json, addresses, until
from tests.support.kube.cluster import cluster as brought_up
from tests.support.kube.options import Options
from tests.support.node_agent import wait_for
from tests.support.site import SiteManager

pytestmark = [pytest.mark.manifests, pytest.mark.timeout(600)]

ROLES = {"fabricmgr-follow", "fabricmgr-services", "fabricmgr-headroom", "fabricmgr-node-tokens"}
# Every account may ask for it (the API server's role system:public-info-viewer), so that no role of ours names it.
FOR_ALL = {"/version"}


@pytest.fixture(scope="module")
def installed() -> Iterator[Cluster]:
    with brought_up(Options(as_pods=True)) as made:
        yield made


def nodes_of(cluster: Cluster) -> dict[str, Json]:
    return {each["name"]: each for each in cluster.manager.ask("GET", "/v1/clusters/default/nodes")["items"]}


def held(cluster: Cluster) -> set[str]:
    return {each["address"] for found in cluster.manager.allocations() for each in found["addresses"]}


def test_agents_join_by_the_token_of_their_pod_and_pods_get_addresses_of_ours(installed: Cluster) -> None:
    installed.apply(objects.deployment("web", 4))
    try:
        pods = installed.rolled_out("web")
        given = {address for pod in pods for address in addresses(pod)}
        wait_for("all is reported", lambda: given <= held(installed), 20)
        first, last = (next(pod for pod in pods if pod["spec"]["nodeName"] == name) for name in ("node1", "node2"))
        reached = [installed.ping(first, address) for address in addresses(last)]
    finally:
        installed.delete("deployment/web")

    assert {name: each["state"] for name, each in nodes_of(installed).items()} == {"node1": "enrolled", "node2": "enrolled"}
    assert len(given) == 8
    assert reached == [True, True]


def test_an_agents_pod_that_is_replaced_is_the_same_node_and_pods_keep_their_network(installed: Cluster) -> None:
    installed.apply(objects.deployment("kept", 2))
    try:
        one, other = installed.rolled_out("kept")
        before = {name: (each["created_at"], each["machine_id"]) for name, each in nodes_of(installed).items()}

        installed.kubectl("rollout", "restart", "daemonset/fabricmgr-agent", "-n", manifests.SPACE)
        installed.kubectl("rollout", "status", "daemonset/fabricmgr-agent", "-n", manifests.SPACE, "--timeout=120s")
        reached = installed.ping(one, addresses(other)[0])
    finally:
        installed.delete("deployment/kept")

    assert {name: (each["created_at"], each["machine_id"]) for name, each in nodes_of(installed).items()} == before
    assert installed.ready_nodes() == {"node1", "node2"}
    assert reached


# --- rights ---


def test_the_manager_uses_every_right_of_the_roles_and_no_other(installed: Cluster) -> None:
    """Each function does its work once: the API server's audit log says what that took."""
    installed.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": rights.CENTRAL})

    rights.give_a_service_its_address_and_take_it_back(installed)
    rights.run_out_of_addresses(installed)
    rights.run_out_of_addresses(installed)  # what was said before is counted, not said anew
    rights.ask_who_a_pod_is(installed)
    records = rights.recorded(installed)

    assert rights.bound(installed) == ROLES
    assert rights.used(records) == rights.listed(installed, ROLES)
    assert {each["requestURI"] for each in records if "objectRef" not in each} == FOR_ALL
    assert rights.refused(records) == []


# --- a manager in the cluster ---


def test_a_manager_in_the_cluster_follows_it_with_its_own_service_account(installed: Cluster) -> None:
    node = installed.node("node1")
    before = len(rights.recorded(installed))
    installed.kubectl("label", "node", node.name, "fabricmgr.io/manager=true")
    installed.kubectl("apply", "-k", str(manifests.part(installed, "manager")))
    try:
        installed.kubectl("rollout", "status", "deployment/fabricmgr-manager", "-n", manifests.SPACE, "--timeout=180s")
        inside = SiteManager(installed.hub, node.own / "var/lib/fabricmgr", node.addresses[0])
        inside.ask("POST", "/v1/clusters", {"name": "home", "in_cluster": True})
        wait_for("it is followed", lambda: inside.ask("GET", "/v1/clusters/home")["api"]["state"] == "following", 30)
        api = inside.ask("GET", "/v1/clusters/home")["api"]
    finally:
        installed.delete("deployment/fabricmgr-manager", "-n", manifests.SPACE)

    # It has taken the cluster in: the agents here are the other manager's.
    assert (api["server"], api["reason"]) == ("https://10.96.0.1:443", "no agent on node1, node2")
    assert api["server_version"].startswith("v1.")
    assert rights.refused(rights.recorded(installed)[before:]) == []


# --- removal, after which nothing of ours is left ---


def test_removal_takes_list_and_plugin_away_from_every_node_and_pods_keep_their_network(installed: Cluster) -> None:
    installed.apply(objects.deployment("left", 2))
    one, other = installed.rolled_out("left")
    installed.kubectl("delete", "daemonset/fabricmgr-agent", "-n", manifests.SPACE, "--wait")
    without_agents = installed.ping(one, addresses(other)[0])

    installed.kubectl("apply", "-k", str(manifests.part(installed, "removal")))
    installed.kubectl("rollout", "status", "daemonset/fabricmgr-removal", "-n", manifests.SPACE, "--timeout=120s")
    after = installed.ping(one, addresses(other)[0])

    assert without_agents
    assert after
    for node in installed.nodes:
        assert [path.name for path in (node.own / "opt/cni/bin").iterdir()] == []
        assert [path.name for path in (node.own / "etc/cni/net.d").iterdir()] == []
    assert until(lambda: installed.ready_nodes() == set(), 30)
