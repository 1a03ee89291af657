"""Real plugins behind ours in one list: portmap, bandwidth, tuning and firewall read our result and find in it what they look for."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.support.libcni import Chain
from tests.support.netns import Namespace
from tests.support.node_agent import wait_for
from tests.support.servers import ask_tcp, tcp_server
from tests.support.shims import Printed
from tests.support.site import Site
from tests.support.subjects import Reference, Shim, addresses, until_gone

MakePod = Callable[[], Namespace]
MakeChain = Callable[..., Chain]

VERSIONS = ("0.4.0", "1.0.0", "1.1.0")


@pytest.fixture(params=VERSIONS)
def chain(request: pytest.FixtureRequest, ours: Shim, control: Reference) -> MakeChain:
    """Makes a list of our plugin and others, in each version that these speak."""

    def make(*behind: dict[str, Any], **runtime_config: Any) -> Chain:
        return Chain(ours, "four", behind, control.plugin.parent, runtime_config, request.param)

    return make


def well(printed: Iterable[Printed]) -> bool:
    return all(each.exit == 0 for each in printed)


def test_a_host_port_leads_to_the_pod_and_goes_with_it(chain: MakeChain, cni_site: Site, pod_ns: MakePod) -> None:
    ports = [{"hostPort": 18080, "containerPort": 8080, "protocol": "tcp"}]
    whole = chain({"type": "portmap", "capabilities": {"portMappings": True}}, portMappings=ports)
    container, pod = whole.subject.container(), pod_ns()

    result = whole.add(container, pod)

    with tcp_server(pod, 8080, "the pod hears"):
        said = wait_for("the pod answers by the node's port", lambda: ask_tcp(cni_site.world, "192.168.250.2", 18080))
    assert said == "the pod hears 192.168.250.1"
    assert well(whole.check(container, pod, result))
    # The runtime's first DEL has everything, its second neither namespace nor result.
    assert well(whole.delete(container, pod.path, result))
    assert well(whole.delete(container, ""))
    assert addresses(result)[0] not in whole.subject.node.run("iptables-save", "-t", "nat").stdout
    assert not whole.subject.held(container)


def test_bandwidth_finds_the_host_end_by_its_name(chain: MakeChain, pod_ns: MakePod) -> None:
    limits = {"ingressRate": 8_000_000, "ingressBurst": 800_000}
    whole = chain({"type": "bandwidth", "capabilities": {"bandwidth": True}}, bandwidth=limits)
    container, pod = whole.subject.container(), pod_ns()

    result = whole.add(container, pod)

    host = result["interfaces"][1]["name"]
    assert "tbf" in whole.subject.node.run("tc", "qdisc", "show", "dev", host).stdout
    assert well(whole.check(container, pod, result))
    assert well(whole.delete(container, pod.path, result))
    assert well(whole.delete(container, ""))
    until_gone(whole.subject, host)


def test_what_tuning_changes_is_no_fault_to_our_check(chain: MakeChain, pod_ns: MakePod) -> None:
    whole = chain({"type": "tuning", "mac": "02:11:22:33:44:55", "mtu": 1400, "sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1"}})
    container, pod = whole.subject.container(), pod_ns()

    result = whole.add(container, pod)

    assert "mtu 1400" in pod.run("ip", "link", "show", "eth0").stdout
    assert result["interfaces"][2]["mac"] == "02:11:22:33:44:55"
    assert whole.subject.node.ping(addresses(result)[0])
    assert well(whole.check(container, pod, result)), [each.stdout for each in whole.check(container, pod, result)]
    assert well(whole.delete(container, pod.path, result))


def test_firewall_lets_a_pod_through_and_forgets_it(chain: MakeChain, cni_site: Site, pod_ns: MakePod) -> None:
    whole = chain({"type": "firewall", "backend": "iptables"})
    container, pod = whole.subject.container(), pod_ns()
    node = whole.subject.node

    result = whole.add(container, pod)

    address = addresses(result)[0]
    assert address in node.run("iptables-save").stdout
    assert node.ping(address)
    assert well(whole.check(container, pod, result))
    assert well(whole.delete(container, pod.path, result))
    assert well(whole.delete(container, ""))
    assert address not in node.run("iptables-save").stdout


def test_a_plugin_behind_that_fails_leaves_us_to_the_runtimes_del(chain: MakeChain, pod_ns: MakePod) -> None:
    whole = chain({"type": "portmap", "capabilities": {"portMappings": True}}, portMappings=[{"hostPort": -1, "containerPort": 0}])
    container, pod = whole.subject.container(), pod_ns()

    with pytest.raises(AssertionError, match="it failed"):
        whole.add(container, pod)
    answers = whole.delete(container, pod.path)

    assert answers[-1].exit == 0
    assert not whole.subject.held(container)
