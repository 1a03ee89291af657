"""Calls that reach the agent in one moment: it takes them in together, and works on each as if it were alone."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from msgspec import structs

from fabricmgr.agent.records import Stage
from tests.support.bursts import all_at_once, begun, ended
from tests.support.namespaces import make_ns, node_ns, pod_ns
from tests.support.netns import Namespace
from tests.support.node_agent import PODNET, Node, Prepared, addresses, error, node, result, wait_for

__all__ = ["make_ns", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]
# More than the agent accepts in one turn of its loop.
MANY = 20


@pytest.fixture
def served(node_ns: Namespace) -> Iterator[Node]:
    """A node whose agent serves and has addresses at hand."""
    with node(node_ns) as made:
        made.start_agent()
        made.ready()
        yield made


def adds(node: Node, pods: dict[str, Namespace]) -> list[Prepared]:
    return [node.prepared("ADD", container, pod) for container, pod in pods.items()]


def made_by(pod_ns: MakePod, count: int) -> dict[str, Namespace]:
    return {f"c{number}": pod_ns() for number in range(count)}


def nothing_is_left(here: Node) -> None:
    """No link, no record, and the manager's copy says the same."""
    wait_for("no link is left", lambda: not here.links())
    wait_for("the journal is empty", lambda: not here.state().attachments)
    wait_for("the manager knows", lambda: not here.copy().held)


def at_rest(here: Node) -> set[str]:
    """Until nobody comes or goes any more, and each link is an attachment's: the containers that stay."""

    def holds() -> bool:
        attachments = here.state().attachments.values()
        return all(each.stage is Stage.DONE for each in attachments) and len(here.links()) == len(attachments)

    wait_for("journal and kernel agree", holds)
    return {key[1] for key in here.state().attachments}


def all_go(here: Node, pods: dict[str, Namespace]) -> None:
    """What runtimes send last, in one moment too."""
    gone = all_at_once(here, [here.prepared("DEL", container, pod) for container, pod in pods.items()])

    assert [each.exit for each in gone] == [0] * len(pods)
    nothing_is_left(here)


def test_each_pod_of_a_burst_gets_addresses_of_its_own(served: Node, pod_ns: MakePod) -> None:
    pods = made_by(pod_ns, MANY)

    given = [addresses(printed) for printed in all_at_once(served, adds(served, pods))]

    assert len({address for each in given for address in each}) == 2 * MANY
    assert len(served.links()) == MANY
    assert all(pod.ping("169.254.1.1") for pod in pods.values())
    served.settled()
    assert len(served.copy().held) == MANY
    all_go(served, pods)


def test_what_is_refused_in_a_burst_costs_the_others_nothing(served: Node, pod_ns: MakePod) -> None:
    pods = made_by(pod_ns, 6)
    pods["c1"].run("ip", "link", "add", "eth0", "type", "bridge")
    pods["c4"].run("ip", "link", "add", "eth0", "type", "bridge")
    nowhere = structs.replace(PODNET, name="nowhere")
    calls = [*adds(served, pods), served.prepared("ADD", "lost", pods["c0"], ifname="eth1", config={"name": nowhere.name})]

    printed = all_at_once(served, calls)

    assert [each.exit for each in printed] == [0, 1, 0, 0, 1, 0, 1]
    assert [error(printed[at])[0] for at in (1, 4)] == [103, 103]
    assert {key[1] for key in served.state().attachments} == {"c0", "c2", "c3", "c5"}
    assert len(served.links()) == 4
    all_go(served, pods)


def test_of_two_adds_of_one_attachment_in_one_moment_one_is_refused(served: Node, pod_ns: MakePod) -> None:
    pods = made_by(pod_ns, 4)

    printed = all_at_once(served, [*adds(served, pods), *adds(served, pods)])

    for one, other in zip(printed[:4], printed[4:], strict=True):
        assert sorted((one.exit, other.exit)) == [0, 1]
        assert error(one if one.exit else other)[0] == 102
    assert len(served.links()) == 4
    all_go(served, pods)


def test_two_interfaces_added_in_one_moment_do_not_both_get_the_default_route(served: Node, pod_ns: MakePod) -> None:
    """The runtime must not call so (CNI SPEC 1.1.0, section 2), and where it does the pod's routes still hold."""
    other = structs.replace(PODNET, name="other", pools=["more"], prefixes=["10.88.0.0/16", "2001:db8:88::/112"])
    served.want(PODNET, other)
    served.ready("other")
    pods, asked = made_by(pod_ns, 3), {"name": "other", "isDefaultGateway": True}
    seconds = [served.prepared("ADD", container, pod, ifname="net1", config=asked) for container, pod in pods.items()]

    printed = all_at_once(served, [*adds(served, pods), *seconds])

    assert sum(each.exit for each in printed) == 3
    assert {error(each)[0] for each in printed if each.exit} == {7}
    assert all(len(pod.run("ip", "route", "show", "default").stdout.splitlines()) == 1 for pod in pods.values())


def test_a_del_in_one_moment_with_its_add_leaves_a_whole_pod_or_none(served: Node, pod_ns: MakePod) -> None:
    pods = made_by(pod_ns, 6)
    dels = [served.prepared("DEL", container, pod) for container, pod in pods.items()]

    printed = all_at_once(served, [call for pair in zip(adds(served, pods), dels, strict=True) for call in pair])

    assert [each.exit for each in printed[1::2]] == [0] * 6
    assert all(pods[container].ping("169.254.1.1") for container in at_rest(served))
    all_go(served, pods)


def test_gc_and_check_in_a_burst_see_whole_pods_or_none(served: Node, pod_ns: MakePod) -> None:
    """GC's list is of the moment before the burst: it may free what stood then, and nothing that has no link yet."""
    pods, before = made_by(pod_ns, 6), pod_ns()
    prev = result(served.add("before", before))
    check = served.prepared("CHECK", "before", before, config={"prevResult": prev})
    collect = served.prepared("GC", "", config={"cni.dev/valid-attachments": [{"containerID": "before", "ifname": "eth0"}]})
    calls = adds(served, pods)

    printed = all_at_once(served, [*calls[:3], check, collect, *calls[3:], check])

    assert [each.exit for each in printed] == [0] * 9
    stayed = at_rest(served)
    served.settled()
    assert {name.split("/")[1] for name in served.copy().held} == stayed >= {"before"}
    all_go(served, {"before": before, **pods})


def test_an_agent_told_to_end_in_a_burst_leaves_whole_pods_or_none(served: Node, pod_ns: MakePod) -> None:
    pods = made_by(pod_ns, MANY)
    running = begun(served, adds(served, pods))

    assert served.agent.kill(signal.SIGTERM) == 0
    printed = ended(running)
    served.start_agent()

    assert {error(each)[0] for each in printed if each.exit} <= {11}
    added = {container for container, each in zip(pods, printed, strict=True) if each.exit == 0}
    assert at_rest(served) == added
    assert all(pods[container].ping("169.254.1.1") for container in added)
    all_go(served, pods)


def test_callers_that_left_in_a_burst_leave_nothing(served: Node, pod_ns: MakePod) -> None:
    pods = made_by(pod_ns, 8)
    with ExitStack() as stack:
        running = [stack.enter_context(each) for each in begun(served, adds(served, pods))]
        for each in running[::2]:
            each.kill()
        for each in running:
            each.communicate(timeout=60)

    stayed = {container for container, each in zip(pods, running, strict=True) if each.returncode == 0}
    wait_for("the rest is undone", lambda: at_rest(served) == stayed)
    assert stayed >= set(list(pods)[1::2])
    all_go(served, pods)


def test_a_caller_that_sends_nothing_keeps_no_report_back(served: Node, pod_ns: MakePod) -> None:
    """Reports wait for calls to end, but not for long: such a caller is cut off after five seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(served.run_dir / "agent.sock"))

        assert served.add("c1", pod_ns()).exit == 0

        wait_for("the manager knows", lambda: set(served.copy().held) == {"podnet/c1/eth0"}, 3.0)
