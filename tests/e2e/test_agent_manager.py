"""Agents with a real manager on a real database: enrolment, claims, reports, routes, and what is left when one of the two was away."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.namespaces import make_ns, pod_ns
from tests.support.netns import Namespace
from tests.support.node_agent import addresses, error, wait_for
from tests.support.site import Site, site

__all__ = ["make_ns", "pod_ns"]

MakePod = Callable[[], Namespace]


@pytest.fixture
def here() -> Iterator[Site]:
    """A manager with a network of both families, and no nodes yet."""
    with site(0) as made:
        made.manager.make_network("podnet", "10.77.0.0/16", "2001:db8:77::/112", pool={"cooldown_seconds": 1})
        yield made


def plain(given: list[str]) -> list[str]:
    return [each.partition("/")[0] for each in given]


def held(here: Site) -> dict[str, set[str]]:
    """Container and its addresses, as the manager believes."""
    found: dict[str, set[str]] = {}
    for each in here.manager.allocations():
        found.setdefault(each["container"], set()).update(str(address["address"]) for address in each["addresses"])
    return found


def test_pods_of_two_nodes_reach_each_other_and_the_manager_knows_them(here: Site, pod_ns: MakePod) -> None:
    nodes = [here.join("n1"), here.join("n2")]
    for node in nodes:
        node.start_agent()
        node.ready()
    pods = [pod_ns(), pod_ns()]

    given = [plain(addresses(node.add(f"c{at}", pod))) for at, (node, pod) in enumerate(zip(nodes, pods, strict=True))]

    wait_for("the manager knows", lambda: held(here) == {f"c{at}": set(each) for at, each in enumerate(given)})
    wait_for("routes are laid", lambda: pods[0].ping(given[1][0]) and pods[1].ping(given[0][0]))
    assert nodes[0].command("status").returncode == 0
    for at, (node, pod) in enumerate(zip(nodes, pods, strict=True)):
        assert node.delete(f"c{at}", pod).exit == 0
    wait_for("the manager knows", lambda: not held(here))


def test_twenty_pods_come_and_go_while_the_manager_is_away_and_history_has_them_all(here: Site, pod_ns: MakePod) -> None:
    node = here.join("n1")
    node.start_agent()
    node.ready()
    pods = {f"c{number}": pod_ns() for number in range(20)}
    here.manager.process.kill(signal.SIGTERM)

    given = {name: plain(addresses(node.add(name, pod))) for name, pod in pods.items()}
    with ThreadPoolExecutor(8) as at_once:
        assert not any(done.exit for done in at_once.map(lambda item: node.delete(*item), pods.items()))
    over = datetime.now(UTC) + timedelta(seconds=0.25)  # the way of a report counts, the start of a manager does not
    here.manager.start()

    wait_for("all is reported", lambda: (said := node.status()) is not None and said.unreported == 0, 20)
    assert not held(here)
    for name, each in given.items():
        found = here.manager.ask("GET", f"/v1/history?address={each[0]}")
        assert name in json.dumps(found)
        assert datetime.fromisoformat(found["items"][0]["until_at"]) < over


def test_the_manager_killed_in_the_middle_of_reports_misses_none_and_doubles_none(here: Site, pod_ns: MakePod) -> None:
    node = here.join("n1")
    node.start_agent()
    node.ready()
    pods = {f"c{number}": pod_ns() for number in range(16)}
    with ThreadPoolExecutor(4) as at_once:
        adding = at_once.map(lambda item: node.add(*item), pods.items())
        here.manager.process.kill()
        given = dict(zip(pods, adding, strict=True))
    here.manager.start()

    wait_for("all is reported", lambda: (said := node.status()) is not None and said.unreported == 0, 30)

    assert held(here) == {name: set(plain(addresses(each))) for name, each in given.items()}


def test_an_address_in_another_nodes_block_is_refused_and_a_free_one_is_given_by_the_manager(here: Site, pod_ns: MakePod) -> None:
    first, second = here.join("n1"), here.join("n2")
    for node in (first, second):
        node.start_agent()
        node.ready()
    theirs = plain(addresses(first.add("c1", pod_ns())))[0]
    pod = pod_ns()

    code, sentence = error(second.add("c2", pod, args=f"IP={theirs}"))

    assert code == 100
    assert "n1" in sentence
    assert "10.77.200.9/32" in addresses(second.add("c2", pod, args="IP=10.77.200.9"))
    other = pod_ns()
    first.add("c3", other)
    wait_for("the route is laid", lambda: other.ping("10.77.200.9"))
    assert second.delete("c2", pod).exit == 0
    wait_for("the manager has it back", lambda: "c2" not in held(here))


def test_the_manager_decides_where_its_network_says_so(here: Site, pod_ns: MakePod) -> None:
    here.manager.ask("PATCH", "/v1/clusters/default/networks/podnet", {"decide": "manager"})
    node = here.join("n1")
    node.start_agent()
    wait_for("the network is made", lambda: "fm-podnet" in node.ns.run("ip", "link").stdout)
    pod = pod_ns()

    given = plain(addresses(node.add("c1", pod)))

    assert held(here) == {"c1": set(given)}
    assert pod.ping("169.254.1.1")
    assert node.delete("c1", pod).exit == 0
    wait_for("the manager has them back", lambda: not held(here))


def test_a_lost_journal_is_rebuilt_with_the_managers_copy(here: Site, pod_ns: MakePod) -> None:
    node = here.join("n1")
    node.start_agent()
    node.ready()
    pods = {name: pod_ns() for name in ("c1", "c2")}
    given = {name: set(plain(addresses(node.add(name, pod)))) for name, pod in pods.items()}
    node.settled()
    node.agent.kill()
    (node.run_dir / "journal").unlink()

    node.start_agent()

    wait_for("its blocks are its again", lambda: (said := node.status()) is not None and bool(said.blocks) and said.unreported == 0, 30)
    node.ready()
    assert held(here) == given
    assert all(pod.ping("169.254.1.1") for pod in pods.values())
    given["c3"] = set(plain(addresses(node.add("c3", pod_ns()))))
    assert len(set.union(*given.values())) == 6
    for name, pod in pods.items():
        assert node.delete(name, pod).exit == 0
    wait_for("the manager knows", lambda: held(here) == {"c3": given["c3"]}, 20)


def test_a_node_that_is_a_container_starts_anew_in_the_same_boot(here: Site, pod_ns: MakePod) -> None:
    """F012: the boot id is the host's; a new life releases what its node no longer has, and the other node is undisturbed."""
    nodes = [here.join("n1"), here.join("n2")]
    for at, node in enumerate(nodes):
        node.start_agent()
        node.ready()
        for number in range(5):
            assert node.add(f"{'ab'[at]}{number}", pod_ns()).exit == 0
        node.settled()
    restarted = nodes[0]
    restarted.agent.kill()
    for link in restarted.links():
        restarted.ns.run("ip", "link", "del", link["ifname"])
    for file in restarted.run_dir.iterdir():
        if not file.is_dir():
            file.unlink()

    restarted.start_agent()

    wait_for("the old addresses are back", lambda: set(held(here)) == {f"b{number}" for number in range(5)}, 30)
    restarted.ready()
    for number in range(5):
        assert restarted.add(f"c{number}", pod_ns()).exit == 0
    wait_for("the manager knows", lambda: len(held(here)) == 10)
    assert nodes[1].command("status").returncode == 0


def test_a_node_declared_gone_is_told_so_and_comes_back_by_a_new_token(here: Site, pod_ns: MakePod) -> None:
    node = here.join("n1")
    node.start_agent()
    node.ready()
    pod = pod_ns()
    assert node.add("c1", pod).exit == 0
    node.settled()

    here.manager.ask("POST", "/v1/clusters/default/nodes/n1/gone", {})

    wait_for("it knows", lambda: "declared gone" in (shown := node.command("status")).stdout and shown.returncode == 1, 20)
    assert not held(here)
    assert node.delete("c1", pod).exit == 0
    node.agent.kill(signal.SIGTERM)
    node.join_by(here.manager, here.manager.ask("POST", "/v1/clusters/default/nodes/n1/token", {})["token"])
    node.start_agent()
    node.ready()
    assert node.add("c2", pod).exit == 0
    wait_for("the manager knows", lambda: set(held(here)) == {"c2"}, 20)


def test_a_wrong_fingerprint_and_a_used_token_are_refused_with_a_sentence(here: Site) -> None:
    node = here.join("n1")
    used = (node.directory / "token").read_text()

    again = node.command("join", "--manager", here.manager.url, "--token", used)
    wrong = node.command("join", "--manager", here.manager.url, "--token", used[:-64] + "0" * 64)

    assert again.returncode == 1
    assert "used already" in again.stderr
    assert wrong.returncode == 1
    assert "does not show the CA with the fingerprint" in wrong.stderr


def test_addresses_given_back_are_used_again_after_the_cooldown_only(here: Site, pod_ns: MakePod) -> None:
    node = here.join("n1")
    node.start_agent()
    node.ready()
    pod = pod_ns()
    first = plain(addresses(node.add("c1", pod)))
    assert node.delete("c1", pod).exit == 0
    second = plain(addresses(node.add("c2", pod)))
    assert not set(first) & set(second)

    time.sleep(1.2)

    assert plain(addresses(node.add("c3", pod_ns()))) == first
