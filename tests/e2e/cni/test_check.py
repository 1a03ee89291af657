"""What CHECK sees, what GC frees, and what STATUS says."""

from typing import Any

import pytest

from tests.support.interfaces import MakePod
from tests.support.subjects import Shim, Subject, addresses, refused, succeeded, until_gone

# --- CHECK -----------------------------------------------------------------------------------------------------------------


def test_check_needs_the_result_of_its_add(ours: Shim, pod_ns: MakePod) -> None:
    container, pod = ours.container(), pod_ns()
    succeeded(ours.add(container, pod))

    code, _ = refused(ours.call("CHECK", ours.config(), container, pod.path))

    assert code == 7
    succeeded(ours.delete(container, pod.path))


@pytest.mark.parametrize(
    ("where", "harm"),
    [
        ("pod", "ip link del eth0"),
        ("pod", "ip address flush dev eth0 scope global"),
        ("pod", "ip route del default"),
        ("node", "ip link set {host} nomaster"),
    ],
)
def test_check_sees_what_was_taken_away(subject: Subject, pod_ns: MakePod, where: str, harm: str) -> None:
    container, pod = subject.container(), pod_ns()
    result = succeeded(subject.add(container, pod, "four"))
    succeeded(subject.check(container, pod, result, "four"))
    host = result["interfaces"][1]["name"]

    (pod if where == "pod" else subject.node).run(*harm.format(host=host).split())

    code, _ = refused(subject.check(container, pod, result, "four"))
    assert code == 111 or not subject.ours
    succeeded(subject.delete(container, pod.path, "four"))


@pytest.mark.parametrize("harm", ["ip link set eth0 address 02:00:00:00:00:99", "ip link set eth0 down", "ip -6 route del default"])
def test_check_names_what_it_expected_and_what_it_found(ours: Shim, pod_ns: MakePod, harm: str) -> None:
    container, pod = ours.container(), pod_ns()
    result = succeeded(ours.add(container, pod))

    pod.run(*harm.split())

    code, sentence = refused(ours.check(container, pod, result))
    assert code == 111
    assert "eth0" in sentence
    succeeded(ours.delete(container, pod.path))
    assert refused(ours.check(container, pod, result))[0] == 111


def test_check_allows_what_later_plugins_changed(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    result = succeeded(subject.add(container, pod, "four"))
    pod.run("ip", "address", "add", "192.0.2.99/32", "dev", "eth0")
    pod.run("ip", "route", "add", "192.0.2.0/24", "dev", "eth0")

    succeeded(subject.check(container, pod, result, "four"))

    succeeded(subject.delete(container, pod.path, "four"))


# --- GC and STATUS ---------------------------------------------------------------------------------------------------------

GC_KEYS: list[tuple[str, bool]] = [("cni.dev/valid-attachments", True), ("cni.dev/attachments", True), ("cni.dev/other", False)]


@pytest.mark.parametrize(("key", "frees"), GC_KEYS)
def test_gc_keeps_what_the_list_has_and_frees_the_rest(ours: Shim, pod_ns: MakePod, key: str, frees: bool) -> None:
    kept, dropped = (ours.container(), pod_ns()), (ours.container(), pod_ns())
    given = [succeeded(ours.add(container, pod, "six")) for container, pod in (kept, dropped)]

    keys: dict[str, Any] = {key: [{"containerID": kept[0], "ifname": "eth0"}]}
    printed = ours.call("GC", ours.config("six", **keys), ifname="")

    assert (printed.exit, printed.stdout) == (0, b"")
    assert ours.held(kept[0]) == set(addresses(given[0]))
    assert bool(ours.held(dropped[0])) is not frees
    assert ours.node.ping(addresses(given[0])[0])
    if frees:
        until_gone(ours, given[1]["interfaces"][1]["name"])
    for container, pod in (kept, dropped):
        succeeded(ours.delete(container, pod.path, "six"))


def test_gc_leaves_other_networks_alone(ours: Shim, pod_ns: MakePod) -> None:
    container, pod = ours.container(), pod_ns()
    succeeded(ours.add(container, pod, "four"))

    keys: dict[str, Any] = {"cni.dev/valid-attachments": []}
    succeeded(ours.call("GC", ours.config("six", **keys), ifname=""))

    assert ours.held(container)
    succeeded(ours.delete(container, pod.path, "four"))


def test_status_is_well_where_the_next_add_succeeds(subject: Subject) -> None:
    """As containerd 2 calls it: every variable of a container is empty."""
    printed = subject.call("STATUS", subject.config("four"), ifname="")

    assert (printed.exit, printed.stdout) == (0, b"")
