"""Holes of the reference plugins, each a case that is red on them and must be green on ours (`reds.toml` names what they do instead)."""

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.netns import Namespace
from tests.support.node_agent import wait_for
from tests.support.shims import Printed
from tests.support.subjects import Reference, Shim, Subject, addresses, refused, succeeded, until_gone

MakePod = Callable[[], Namespace]
MakeNs = Callable[[str], Namespace]


def traces(subject: Subject, *words: str) -> list[str]:
    """Lines of the node's packet filters that name one of these: rules of a pod."""
    shown = subject.node.run("nft", "list", "ruleset").stdout
    return [line.strip() for line in shown.splitlines() if any(word in line for word in words)]


def test_masquerade_goes_with_a_pod_whose_del_has_no_namespace(subject: Subject, pod_ns: MakePod) -> None:
    """containerd's DEL at Remove has an empty CNI_NETNS."""
    container, pod = subject.container(), pod_ns()
    address = addresses(succeeded(subject.add(container, pod, "masked")))[0]

    succeeded(subject.delete(container, "", "masked"))

    left = traces(subject, address, container)
    assert not left, f"rules of the pod are left: {left}"


def test_masquerade_goes_with_a_pod_whose_namespace_is_gone(subject: Subject, make_ns: MakeNs, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    address = addresses(succeeded(subject.add(container, pod, "masked")))[0]

    succeeded(subject.delete(container, "/run/netns/was-never-there", "masked"))

    left = traces(subject, address, container)
    assert not left, f"rules of the pod are left: {left}"


@pytest.mark.parametrize("stated", [[], None])
def test_gc_with_an_empty_list_frees_all(subject: Subject, pod_ns: MakePod, stated: list[object] | None) -> None:
    """A Go runtime without pods can send null."""
    container, pod = subject.container(), pod_ns()
    succeeded(subject.add(container, pod, "four"))
    assert subject.held(container)

    config = {**subject.config("four"), "cni.dev/valid-attachments": stated}
    printed = subject.call("GC", config, ifname="")

    assert printed.exit == 0
    assert not subject.held(container), f"addresses are still held: {subject.held(container)}"
    assert printed.stdout == b""


@contextmanager
def filled(subject: Subject, pod_ns: MakePod) -> Iterator[None]:
    """The small network with no free address left: six pods, or five beside the reference's gateway."""
    room = 6 if subject.ours else 5
    given: list[tuple[str, Namespace]] = []
    try:
        for _ in range(room):
            pod = subject.container(), pod_ns()
            # An earlier case's addresses rest for two seconds.
            printed = wait_for("an address has rested", partial(added, subject, *pod))
            given.append(pod)
            succeeded(printed)
        yield
    finally:
        for container, namespace in given:
            succeeded(subject.delete(container, namespace.path, "tiny"))


def added(subject: Subject, container: str, pod: Namespace) -> Printed | None:
    printed = subject.add(container, pod, "tiny")
    if printed.exit == 0:
        return printed
    subject.delete(container, pod.path, "tiny")
    return None


def test_status_knows_an_exhausted_pool(subject: Subject, pod_ns: MakePod) -> None:
    """Where nobody evicts pods by it, STATUS succeeds only if the next ADD would. An ADD has found no address before."""
    with filled(subject, pod_ns):
        assert subject.add(subject.container(), pod_ns(), "tiny").exit == 1
        printed = subject.call("STATUS", subject.config("tiny"), ifname="")

        assert printed.exit == 1, "STATUS says that the next ADD would succeed"
        assert refused(printed)[0] == 50


def test_an_add_that_finds_no_address_leaves_no_link(subject: Subject, pod_ns: MakePod) -> None:
    with filled(subject, pod_ns):
        before, pod = subject.links(), pod_ns()

        code, sentence = refused(subject.add(subject.container(), pod, "tiny"))

        left = subject.links() - before
        assert not left, f"links are left on the node: {left}"
        assert "eth0" not in pod.run("ip", "-o", "link").stdout
        assert code == 11
        assert "tiny" in sentence


def test_an_exhausted_pool_is_a_transient_error_that_names_the_pool(subject: Subject, pod_ns: MakePod) -> None:
    with filled(subject, pod_ns):
        code, sentence = refused(subject.add(subject.container(), pod_ns(), "tiny"))

        assert code == 11, f"the code is {code}"
        assert "'tiny'" in sentence


def test_the_plugins_own_namespace_is_refused_before_anything_is_made(subject: Subject) -> None:
    container = subject.container()
    before = subject.links()

    printed = subject.call("ADD", subject.config("four"), container, subject.node.path)

    made = subject.links() - before
    shown = subject.node.run("ip", "-o", "link").stdout
    after = subject.delete(container, subject.node.path, "four")
    subject.node.run("ip", "link", "del", "eth0", check=False)
    assert not made, f"links were made: {made}"
    assert refused(printed)[0] == 8
    assert "eth0" not in shown
    assert after.exit == 0


def test_a_del_in_the_plugins_own_namespace_succeeds_and_touches_nothing(subject: Subject) -> None:
    subject.node.run("ip", "link", "add", "eth0", "type", "bridge")
    try:
        printed = subject.delete(subject.container(), subject.node.path, "four")

        assert printed.exit == 0, f"DEL fails: {printed.stdout.decode()}"
        assert "eth0" in subject.node.run("ip", "-o", "link").stdout
    finally:
        subject.node.run("ip", "link", "del", "eth0", check=False)


# --- what grows, and what waits ------------------------------------------------------------------------------------------------

IN_OPEN = 0x20
LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def openings(*folders: Path) -> Iterator[Callable[[], int]]:
    """Counts how often files of these folders are opened, by whomever."""
    watch = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert watch >= 0
    for folder in folders:
        assert LIBC.inotify_add_watch(watch, os.fsencode(folder), IN_OPEN) >= 0
    try:
        yield lambda: events(watch)
    finally:
        os.close(watch)


def events(watch: int) -> int:
    try:
        data = os.read(watch, 1 << 20)
    except BlockingIOError:
        return 0
    at, count = 0, 0
    while at < len(data):
        at += 16 + struct.unpack_from("iIII", data, at)[3]
        count += 1
    return count


def records(subject: Subject, network: str) -> list[Path]:
    """Folders in which the plugin keeps what it holds."""
    if isinstance(subject, Reference):
        return [subject.leases / network]
    assert isinstance(subject, Shim)
    return [subject.agent.run_dir, subject.agent.run_dir / "spool"]


def test_an_add_does_not_read_what_others_hold(subject: Subject, pod_ns: MakePod) -> None:
    """host-local opens every reservation, so that an ADD costs 160 ms where 4,000 are held."""
    pods = [(subject.container(), pod_ns()) for _ in range(24)]
    opened = []
    for container, pod in pods:
        succeeded(subject.add(container, pod, "four"))
        with openings(*records(subject, "four")) as count:
            extra = subject.container(), pod_ns()
            succeeded(subject.add(*extra, "four"))
            opened.append(count())
        succeeded(subject.delete(extra[0], extra[1].path, "four"))

    for container, pod in pods:
        succeeded(subject.delete(container, pod.path, "four"))
    assert opened[-1] <= opened[0] + 2, f"files opened in one ADD grew from {opened[0]} to {opened[-1]}"


def test_a_dual_stack_add_waits_for_no_duplicate_detection(subject: Subject, pod_ns: MakePod) -> None:
    """Detection is made to take four seconds here, which is no measure of anything else that an ADD does."""
    container, pod = subject.container(), pod_ns()
    pod.run("sysctl", "-q", "-w", "net.ipv6.conf.default.dad_transmits=4")
    point_to_point: dict[str, Any] = {} if subject.ours else {"type": "ptp", "bridge": None, "isGateway": None}
    asked = subject if subject.ours else replace(subject, plugin=subject.plugin.parent / "ptp")

    printed = asked.add(container, pod, **point_to_point)

    succeeded(asked.delete(container, pod.path, **point_to_point))
    assert printed.seconds < 3, f"ADD took {printed.seconds:.1f} s"
    assert len(addresses(succeeded(printed))) == 2


def test_a_links_end_of_life_follows_its_del(ours: Shim, pod_ns: MakePod) -> None:
    container, pod = ours.container(), pod_ns()
    name = succeeded(ours.add(container, pod, "four"))["interfaces"][1]["name"]

    succeeded(ours.delete(container, "", "four"))

    until_gone(ours, name)
