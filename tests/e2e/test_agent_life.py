"""An agent from its first start: pods come and go through the shim, and the manager's copy follows."""

import time
from collections.abc import Callable, Iterator

import pytest
from msgspec import structs

from fabricmgr.agent.links import LIVE
from fabricmgr.wire import Decide
from tests.support.namespaces import make_ns, node_ns, pod_ns
from tests.support.netns import Namespace, namespace
from tests.support.node_agent import PODNET, Node, addresses, error, node, result, wait_for

__all__ = ["make_ns", "node_ns", "pod_ns"]

MakePod = Callable[[], Namespace]


@pytest.fixture
def here(node_ns: Namespace) -> Iterator[Node]:
    with node(node_ns) as made:
        yield made


@pytest.fixture
def served(here: Node) -> Node:
    """A node whose agent serves and has addresses at hand."""
    here.start_agent()
    here.ready()
    return here


def test_a_pod_gets_its_addresses_and_gives_them_back(here: Node, pod_ns: MakePod) -> None:
    here.start_agent()
    here.ready()
    pod = pod_ns()

    given = result(here.add("c1", pod))

    assert [each["name"] for each in given["interfaces"]] == ["fm-podnet", here.links()[0]["ifname"], "eth0"]
    assert pod.ping("169.254.1.1")
    assert here.ns.ping(given["ips"][0]["address"].partition("/")[0])
    here.settled()
    assert set(here.copy().held) == {"podnet/c1/eth0"}

    assert here.delete("c1", pod).exit == 0
    wait_for("the link is reaped", lambda: not here.links())
    wait_for("the manager knows", lambda: not here.copy().held)
    assert not here.state().attachments


def test_the_same_attachment_twice_is_refused_and_a_del_of_nothing_succeeds(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    assert served.add("c1", pod).exit == 0

    again = error(served.add("c1", pod))

    assert again == (102, "container 'c1' has 'eth0' on network 'podnet' already; DEL it first")
    assert served.delete("c1", pod).exit == 0
    assert served.delete("c1").exit == 0
    assert served.delete("never-was", pod).exit == 0
    assert served.add("c1", pod).exit == 0


def test_an_interface_that_exists_already_costs_no_address(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    pod.run("ip", "link", "add", "eth0", "type", "bridge")

    assert error(served.add("c1", pod))[0] == 103

    assert not served.links()
    assert not served.state().attachments


def test_check_sees_what_is_as_it_was_and_what_is_gone(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    prev = result(served.add("c1", pod))

    assert served.cni("CHECK", "c1", pod, config={"prevResult": prev}).exit == 0

    pod.run("ip", "address", "del", prev["ips"][0]["address"], "dev", "eth0")
    code, sentence = error(served.cni("CHECK", "c1", pod, config={"prevResult": prev}))
    assert code == 111
    assert prev["ips"][0]["address"].partition("/")[0] in sentence
    assert error(served.cni("CHECK", "c2", pod, config={"prevResult": prev}))[0] == 111


@pytest.mark.parametrize(
    ("config", "left"),
    [
        ({"cni.dev/valid-attachments": []}, set()),
        ({"cni.dev/valid-attachments": None}, set()),
        ({"cni.dev/attachments": [{"containerID": "c2", "ifname": "eth0"}]}, {"c2"}),
        ({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}, {"c1"}),
        ({}, {"c1", "c2"}),
    ],
    ids=["empty", "null", "earlier key", "one stays", "no key"],
)
def test_gc_frees_what_the_list_lacks(served: Node, pod_ns: MakePod, config: dict[str, object], left: set[str]) -> None:
    pods = {name: pod_ns() for name in ("c1", "c2")}
    for name, pod in pods.items():
        assert served.add(name, pod).exit == 0

    done = served.cni("GC", "", config=config)

    assert (done.exit, done.stdout) == (0, b"")
    wait_for("links are reaped", lambda: len(served.links()) == len(left))
    wait_for("that is journalled", lambda: {key[1] for key in served.state().attachments} == left)
    wait_for("the manager knows", lambda: {key.split("/")[1] for key in served.copy().held} == left)


def test_gc_frees_a_link_that_no_journal_knows(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    served.agent.kill()
    served.ns.run("ip", "link", "add", "fm0123456789abc", "type", "veth", "peer", "name", "eth0", "netns", pod.name)
    served.ns.run("ip", "link", "set", "fm0123456789abc", "group", str(LIVE), "alias", "fabricmgr podnet #a1b2 eth0 - 10.77.9.9 -")
    served.start_agent()
    assert (said := served.status()) is not None
    assert any("fm0123456789abc" in fault for fault in said.faults), (said.faults, served.links())

    assert served.cni("GC", "", config={"cni.dev/valid-attachments": []}).exit == 0

    wait_for("it is gone", lambda: not served.links())


def test_an_address_asked_for_is_given_or_refused_with_the_reason(served: Node, pod_ns: MakePod) -> None:
    first, second = pod_ns(), pod_ns()

    assert "10.77.0.40/32" in addresses(served.add("c1", first, args="IP=10.77.0.40"))

    code, sentence = error(served.add("c2", second, args="IP=10.77.0.40"))
    assert code == 100
    assert "container c1" in sentence
    assert error(served.add("c2", second, args="IP=10.99.0.1"))[0] == 101
    assert error(served.add("c2", second, args="IP=10.77.0.0"))[0] == 101
    assert "10.77.200.7/32" in addresses(served.add("c2", second, args="IP=10.77.200.7"))
    assert "podnet/c2/eth0" in served.copy().central
    assert first.ping("10.77.200.7")
    assert served.delete("c2", second).exit == 0
    wait_for("the manager has it back", lambda: "podnet/c2/eth0" not in served.copy().central)


def test_a_mac_asked_for_is_taken(served: Node, pod_ns: MakePod) -> None:
    given = result(served.add("c1", pod_ns(), args="MAC=02:11:22:33:44:55"))

    assert given["interfaces"][2]["mac"] == "02:11:22:33:44:55"


def test_a_pod_that_kubelet_adds_anew_takes_the_place_of_its_dead_self(served: Node, pod_ns: MakePod) -> None:
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=uid-1"
    with namespace("pod") as dead:
        assert served.add("old", dead, args=args).exit == 0
    wait_for("its link went with its namespace", lambda: not served.links())
    living = pod_ns()
    assert served.add("alive", living, args=args).exit == 0
    assert {key[1] for key in served.state().attachments} == {"alive"}

    assert served.add("new", pod_ns(), args=args).exit == 0

    assert {key[1] for key in served.state().attachments} == {"alive", "new"}


def test_del_after_the_namespace_went_frees_the_addresses(served: Node) -> None:
    with namespace("pod") as pod:
        assert served.add("c1", pod).exit == 0

    assert served.delete("c1").exit == 0

    wait_for("nothing is left", lambda: not served.state().attachments)


def test_addresses_rest_for_their_cooldown_and_the_longest_rested_comes_first(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()
    first, second = addresses(served.add("c1", pod)), addresses(served.add("c2", pod_ns()))
    assert served.delete("c1", pod).exit == 0
    wait_for("it is reaped", lambda: len(served.links()) == 1)
    gone_at = time.monotonic()

    now = addresses(served.add("c3", pod))

    assert time.monotonic() - gone_at > 2 or not set(now) & {*first, *second}
    time.sleep(2.1)
    assert addresses(served.add("c4", pod_ns())) == first


# --- who decides -----------------------------------------------------------------------------------------------------------


def test_the_manager_decides_every_address_where_its_network_says_so(here: Node, pod_ns: MakePod) -> None:
    here.want(structs.replace(PODNET, decide=Decide.MANAGER))
    here.start_agent()
    wait_for("the network is made", lambda: "fm-podnet" in here.ns.run("ip", "link").stdout)
    pod = pod_ns()

    given = addresses(here.add("c1", pod))

    assert {each.address for each in here.copy().central["podnet/c1/eth0"]} == {each.partition("/")[0] for each in given}
    assert not here.copy().blocks
    assert here.ns.ping(given[0].partition("/")[0])
    assert here.delete("c1", pod).exit == 0
    wait_for("the manager has it back", lambda: not here.copy().central)
    here.manager.kill()
    code, sentence = error(here.add("c2", pod))
    assert code == 11
    assert "the manager at https://127.0.0.1" in sentence
    assert not here.state().attachments


def test_the_manager_decides_for_the_namespaces_it_names(here: Node, pod_ns: MakePod) -> None:
    here.want(structs.replace(PODNET, decide=Decide.NAMESPACES, namespaces=["fixed"]))
    here.start_agent()
    here.ready()
    named = "K8S_POD_NAMESPACE={};K8S_POD_NAME=web;K8S_POD_UID=uid-{}"

    assert here.add("c1", pod_ns(), args=named.format("fixed", 1)).exit == 0
    assert here.add("c2", pod_ns(), args=named.format("free", 2)).exit == 0

    assert set(here.copy().central) == {"podnet/c1/eth0"}


def test_an_exhausted_pool_is_code_11_and_fails_status_of_a_stand_alone_network(here: Node, pod_ns: MakePod) -> None:
    here.want(structs.replace(PODNET, families=[4], prefixes=["10.78.0.0/29"]))
    here.start_agent()
    wait_for("the network is made", lambda: "fm-podnet" in here.ns.run("ip", "link").stdout)
    assert here.cni("STATUS", "").exit == 0
    for number in range(4):
        assert here.add(f"c{number}", pod_ns()).exit == 0

    code, sentence = error(here.add("c9", pod_ns()))

    assert code == 11
    assert "pool 'pods' has no free IPv4 address" in sentence
    assert error(here.cni("STATUS", ""))[0] == 50
    assert len(here.links()) == 4
    here.want(structs.replace(PODNET, families=[4], prefixes=["10.78.0.0/29"], status_policy="lenient"))
    wait_for("a lenient network does not fail for it", lambda: here.cni("STATUS", "").exit == 0)


# --- two networks of one container -------------------------------------------------------------------------------------------


def test_a_second_interface_leads_to_its_own_network_alone(here: Node, pod_ns: MakePod) -> None:
    """F009: two networks of ours in one pod have one default route a family, through the first."""
    other = structs.replace(PODNET, name="other", pools=["more"], prefixes=["10.88.0.0/16", "2001:db8:88::/112"])
    here.want(PODNET, other)
    here.start_agent()
    here.ready()
    here.ready("other")
    pod = pod_ns()
    first = result(here.add("c1", pod))

    second = result(here.add("c1", pod, ifname="net1", config={"name": "other"}))

    assert [route["dst"] for route in second["routes"]] == ["10.88.0.0/16", "2001:db8:88::/112"]
    for family in ("-4", "-6"):
        defaults = pod.run("ip", family, "route", "show", "default").stdout.splitlines()
        assert len(defaults) == 1
        assert "dev eth0" in defaults[0]
    assert here.cni("CHECK", "c1", pod, config={"prevResult": first}).exit == 0
    assert here.delete("c1", pod, ifname="net1", config={"name": "other"}).exit == 0
    assert "dev eth0" in pod.run("ip", "route", "show", "default").stdout
    assert here.cni("CHECK", "c1", pod, config={"prevResult": first}).exit == 0
    code, sentence = error(here.add("c1", pod, ifname="net1", config={"name": "other", "isDefaultGateway": True}))
    assert code == 7
    assert "podnet" in sentence
    assert "other" in sentence
    assert here.add("c1", pod, ifname="net1", config={"name": "other", "isDefaultGateway": False}).exit == 0
    assert len(pod.run("ip", "route", "show", "default").stdout.splitlines()) == 1


def test_without_the_default_route_a_pod_reaches_the_clusters_pools(served: Node, pod_ns: MakePod) -> None:
    pod = pod_ns()

    given = result(served.add("c1", pod, config={"isDefaultGateway": False}))

    assert [route["dst"] for route in given["routes"]] == ["10.77.0.0/16", "2001:db8:77::/112"]
    assert not pod.run("ip", "route", "show", "default").stdout


@pytest.mark.parametrize(
    ("config", "code"),
    [({"name": "nowhere"}, 7), ({"bridge": "br9"}, 0), ({"mtu": 9000}, 7), ({"mtu": 1300}, 0), ({"vlan": 7}, 2)],
)
def test_what_a_configuration_may_ask_for(served: Node, pod_ns: MakePod, config: dict[str, object], code: int) -> None:
    printed = served.add("c1", pod_ns(), config=config)

    assert printed.exit == (1 if code else 0), printed
    if code:
        assert error(printed)[0] == code
        assert not served.links()
