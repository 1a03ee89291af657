"""What container runtimes were seen to send: their sequences of calls, their variables and their spellings."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.netns import Namespace
from tests.support.node_agent import wait_for
from tests.support.site import Site
from tests.support.subjects import Shim, Subject, addresses, refused, succeeded, until_gone

MakePod = Callable[[], Namespace]


def kubelets_args(name: str, uid: str, container: str) -> str:
    """In an order that containerd draws anew for each call."""
    named = f"K8S_POD_NAME={name};IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID={container}"
    return f"{named};K8S_POD_UID={uid};K8S_POD_NAMESPACE=default;SOMETHING_NEW=1"


# --- containerd and kubelet --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_containerds_three_dels(subject: Subject, pod_ns: MakePod, version: str) -> None:
    """The first has namespace and prevResult, those after it have neither, and runtimeConfig is still there."""
    container, pod = subject.container(), pod_ns()
    keys: dict[str, Any] = {"runtimeConfig": {"ips": [], "mac": ""}, "capabilities": {"ips": True, "mac": True}}
    result = succeeded(subject.add(container, pod, "four", version, **keys))

    printed = [
        subject.delete(container, pod.path, "four", version, prevResult=result, **keys),
        subject.delete(container, "", "four", version, **keys),
        subject.delete(container, "", "four", version, **keys),
    ]

    assert [(each.exit, each.stdout) for each in printed] == [(0, b"")] * 3
    assert not subject.held(container)
    until_gone(subject, result["interfaces"][1]["name"])


def test_what_a_pod_is_called_is_the_managers_to_know(ours: Shim, cni_site: Site, pod_ns: MakePod) -> None:
    container, pod = ours.container(), pod_ns()
    uid = f"uid-{container}"
    args = kubelets_args("web-0", uid, container)

    result = succeeded(ours.call("ADD", ours.config("four"), container, pod.path, CNI_ARGS=args))

    def told() -> list[dict[str, Any]]:
        return [each for each in cni_site.manager.allocations() if each["container"] == container]

    known = wait_for("the manager knows the pod", told)[0]
    assert (known["namespace"], known["pod"], known["uid"], known["node"]) == ("default", "web-0", uid, "n1")
    assert [each["address"] for each in known["addresses"]] == addresses(result)
    # DEL compares no UID: a static pod shows another one than its file's.
    assert ours.call("DEL", ours.config("four"), container, pod.path, CNI_ARGS=kubelets_args("web-0", "another", container)).exit == 0
    wait_for("the manager knows that it is gone", lambda: not told())


def test_a_pod_that_kubelet_starts_over_gets_a_new_id_and_both_live_until_the_runtime_says_otherwise(ours: Shim, pod_ns: MakePod) -> None:
    """Kubelet restarted: same pod UID, another container, no DEL between. The link of the first still carries its address."""
    first, second = (ours.container(), pod_ns()), (ours.container(), pod_ns())
    uid = f"uid-{first[0]}"

    given = [
        succeeded(ours.call("ADD", ours.config("four"), container, pod.path, CNI_ARGS=kubelets_args("db-0", uid, container)))
        for container, pod in (first, second)
    ]

    assert addresses(given[0]) != addresses(given[1])
    assert all(ours.node.ping(addresses(each)[0]) for each in given)
    keys: dict[str, Any] = {"cni.dev/valid-attachments": [{"containerID": second[0], "ifname": "eth0"}]}
    assert ours.call("GC", ours.config("four", **keys), ifname="").exit == 0
    assert not ours.held(first[0])
    assert ours.node.ping(addresses(given[1])[0])
    assert ours.delete(second[0], second[1].path, "four").exit == 0


def test_a_pod_whose_link_is_gone_gives_its_address_up_to_its_next_self(ours: Shim, pod_ns: MakePod) -> None:
    """The same, after the first one's namespace went: nothing fills up with addresses of the dead."""
    first, second = (ours.container(), pod_ns()), (ours.container(), pod_ns())
    uid = f"uid-{first[0]}"
    result = succeeded(ours.call("ADD", ours.config("four"), first[0], first[1].path, CNI_ARGS=kubelets_args("db-1", uid, first[0])))
    ours.node.run("ip", "link", "del", result["interfaces"][1]["name"])

    succeeded(ours.call("ADD", ours.config("four"), second[0], second[1].path, CNI_ARGS=kubelets_args("db-1", uid, second[0])))

    assert not ours.held(first[0])
    assert ours.held(second[0])
    for container, pod in (first, second):
        assert ours.delete(container, pod.path, "four").exit == 0


def test_del_comes_while_nobody_serves(ours: Shim, pod_ns: MakePod) -> None:
    """The shim alone answers: a DEL that fails would keep the pod from ever going away."""
    container, pod = ours.container(), pod_ns()
    elsewhere = {"FABRICMGR_SOCKET": str(ours.agent.directory / "nobody" / "agent.sock")}

    added = ours.call("ADD", ours.config("four"), container, pod.path, **elsewhere)
    deleted = ours.call("DEL", ours.config("four"), container, pod.path, **elsewhere)

    assert refused(added)[0] == 11
    assert (deleted.exit, deleted.stdout) == (0, b"")


# --- Podman ------------------------------------------------------------------------------------------------------------------


def test_podmans_restart_is_the_same_id_in_another_namespace(subject: Subject, pod_ns: MakePod) -> None:
    container, before, after = subject.container(), pod_ns(), pod_ns()
    succeeded(subject.add(container, before, "four"))

    succeeded(subject.delete(container, before.path, "four"))
    result = succeeded(subject.add(container, after, "four"))

    assert subject.node.ping(addresses(result)[0])
    assert "eth0" not in before.run("ip", "-o", "link").stdout
    succeeded(subject.delete(container, after.path, "four"))


def test_podmans_two_addresses_come_by_a_capability(ours: Shim, pod_ns: MakePod) -> None:
    container, pod = ours.container(), pod_ns()
    keys: dict[str, Any] = {"runtimeConfig": {"ips": ["10.77.7.7", "2001:db8:77::77"]}, "capabilities": {"ips": True}}

    def add() -> dict[str, Any] | None:
        printed = ours.add(container, pod, **keys)
        return succeeded(printed) if printed.exit == 0 else None

    assert addresses(wait_for("both have rested", add)) == ["10.77.7.7", "2001:db8:77::77"]
    assert ours.delete(container, pod.path, **keys).exit == 0


def test_a_name_without_a_namespace_is_no_pods(ours: Shim, cni_site: Site, pod_ns: MakePod) -> None:
    """Podman sends K8S_POD_NAME with its container's name."""
    container, pod = ours.container(), pod_ns()

    succeeded(ours.call("ADD", ours.config("four"), container, pod.path, CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=quirky_name"))

    known = wait_for("the manager knows", lambda: [e for e in cni_site.manager.allocations() if e["container"] == container])[0]
    assert (known["namespace"], known["pod"], known["uid"]) == ("", "", "")
    assert ours.delete(container, pod.path, "four").exit == 0


@pytest.mark.parametrize("spelling", ["ips", "IPs", "Ips"])
def test_a_capability_is_matched_without_case(ours: Shim, pod_ns: MakePod, spelling: str) -> None:
    container, pod = ours.container(), pod_ns()

    def add() -> dict[str, Any] | None:
        printed = ours.add(container, pod, "four", runtimeConfig={spelling: ["10.78.7.7"]})
        return succeeded(printed) if printed.exit == 0 else None

    assert addresses(wait_for("the address has rested", add)) == ["10.78.7.7"]
    assert ours.delete(container, pod.path, "four").exit == 0


# --- many at once ------------------------------------------------------------------------------------------------------------


def test_a_burst_of_adds_and_dels_doubles_nothing_and_leaves_nothing(ours: Shim, pod_ns: MakePod) -> None:
    pods = [(ours.container(), pod_ns()) for _ in range(32)]
    with ThreadPoolExecutor(32) as at_once:
        given = list(at_once.map(lambda pod: addresses(succeeded(ours.add(pod[0], pod[1]))), pods))
        gone = list(at_once.map(lambda pod: ours.delete(pod[0], pod[1].path), pods))

    assert len({address for each in given for address in each}) == 64
    assert not any(each.exit for each in gone)
    wait_for("no link is left", lambda: not ours.links())
    assert not any(ours.held(container) for container, _ in pods)
