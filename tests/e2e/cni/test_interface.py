"""Links, addresses, routes and results: what an ADD, a CHECK and a DEL come to, for every version and family."""

from typing import Any

import pytest

from tests.support.interfaces import FAMILIES, VERSIONED, MakePod, port, shown
from tests.support.netns import Namespace
from tests.support.node_agent import wait_for
from tests.support.subjects import VERSIONS, Shim, Subject, addresses, refused, succeeded, until_gone

# --- ADD, CHECK, DEL ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "version"), VERSIONED)
def test_an_attachment_lives_through_add_check_and_del(subject: Subject, pod_ns: MakePod, network: str, version: str) -> None:
    container, pod = subject.container(), pod_ns()

    result = succeeded(subject.add(container, pod, network, version))

    assert result["cniVersion"] == version
    bridge, host, inside = result["interfaces"]
    assert (inside["name"], inside["sandbox"]) == ("eth0", pod.path)
    assert not bridge.get("sandbox")
    assert shown(subject.node, "link", "show", "dev", host["name"])[0]["master"] == bridge["name"]
    assert shown(pod, "link", "show", "dev", "eth0")[0]["address"] == inside["mac"]
    assert sorted(ip["interface"] for ip in result["ips"]) == [2] * len(FAMILIES[network])
    there = {each["local"] for each in shown(pod, "address", "show", "dev", "eth0")[0]["addr_info"]}
    assert set(addresses(result)) <= there
    assert set(addresses(result)) == subject.held(container)
    for ip in result["ips"]:
        assert pod.ping(ip["gateway"] if "fe80" not in ip["gateway"] else f"{ip['gateway']}%eth0"), ip["gateway"]
    if version >= "0.4.0":
        succeeded(subject.check(container, pod, result, network, version))

    succeeded(subject.delete(container, pod.path, network, version, prevResult=result))

    until_gone(subject, host["name"])
    assert "eth0" not in pod.run("ip", "-o", "link").stdout
    assert not subject.held(container)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_has_the_keys_of_its_version(ours: Shim, pod_ns: MakePod, version: str) -> None:
    container, pod = ours.container(), pod_ns()

    result = succeeded(ours.add(container, pod, "dual", version))

    succeeded(ours.delete(container, pod.path))
    assert [ip.get("version") for ip in result["ips"]] == (["4", "6"] if version < "1" else [None, None])
    assert [("mtu" in each) for each in result["interfaces"]] == [version == "1.1.0"] * 3
    assert [route["dst"] for route in result["routes"]] == ["0.0.0.0/0", "::/0"]
    assert set(result) == {"cniVersion", "interfaces", "ips", "routes", "dns"}


def test_two_pods_reach_each_other_and_their_node(subject: Subject, pod_ns: MakePod) -> None:
    pods = [(subject.container(), pod_ns()) for _ in range(2)]

    given = [addresses(succeeded(subject.add(container, pod))) for container, pod in pods]

    assert all(pods[0][1].ping(address) for address in given[1])
    assert all(subject.node.ping(address) for each in given for address in each)
    for container, pod in pods:
        succeeded(subject.delete(container, pod.path))


def test_a_default_route_is_there_where_the_result_says_so(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()

    result = succeeded(subject.add(container, pod))

    ways = {each["dst"]: each.get("gw") for each in result["routes"]}
    assert set(ways) == {"0.0.0.0/0", "::/0"}
    for flag, address in (("-4", "198.51.100.1"), ("-6", "2001:db8:ffff::1")):
        assert "dev eth0" in pod.run("ip", flag, "route", "get", address).stdout
    succeeded(subject.delete(container, pod.path))


def test_an_add_again_is_refused_and_the_first_lives(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    result = succeeded(subject.add(container, pod, "four"))

    refused(subject.add(container, pod, "four"))

    assert subject.held(container) == set(addresses(result))
    assert subject.node.ping(addresses(result)[0])
    succeeded(subject.delete(container, pod.path, "four"))


def test_an_interface_that_is_there_already_is_refused_and_costs_no_address(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    pod.run("ip", "link", "add", "eth0", "type", "bridge")
    before = subject.links()

    refused(subject.add(container, pod, "four"))

    assert not subject.held(container)
    assert subject.links() == before
    assert shown(pod, "link", "show", "dev", "eth0")[0]["linkinfo"]["info_kind"] == "bridge"


def test_a_namespace_that_is_not_there_is_refused(subject: Subject) -> None:
    container = subject.container()

    refused(subject.call("ADD", subject.config("four"), container, "/run/netns/never-was"))

    assert not subject.held(container)


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_a_missing_namespace_is_code_3(ours: Shim, command: str) -> None:
    config = ours.config("four", prevResult={"cniVersion": "1.1.0"} if command == "CHECK" else None)

    code, sentence = refused(ours.call(command, config, ours.container(), "/run/netns/never-was"))

    assert code == 3
    assert "/run/netns/never-was" in sentence


@pytest.mark.parametrize("netns", ["/etc/hostname", "/proc/self/ns/uts"])
def test_what_is_no_network_namespace_is_code_8(ours: Shim, netns: str) -> None:
    assert refused(ours.call("ADD", ours.config("four"), ours.container(), netns))[0] == 8


# --- DEL -------------------------------------------------------------------------------------------------------------------


def test_a_del_may_come_again_with_and_without_a_namespace(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    succeeded(subject.add(container, pod, "four"))

    printed = [subject.delete(container, netns, "four") for netns in (pod.path, "", pod.path, "/run/netns/gone")]

    assert [each.exit for each in printed] == [0] * 4
    assert [each.stdout for each in printed] == [b""] * 4
    assert not subject.held(container)


def test_a_del_of_what_never_was_succeeds(subject: Subject, pod_ns: MakePod) -> None:
    succeeded(subject.delete(subject.container(), pod_ns().path))


def test_a_del_after_a_failed_add_succeeds(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    pod.run("ip", "link", "add", "eth0", "type", "bridge")
    refused(subject.add(container, pod, "four"))
    pod.run("ip", "link", "del", "eth0")

    succeeded(subject.delete(container, pod.path, "four"))

    succeeded(subject.add(container, pod, "four"))
    succeeded(subject.delete(container, pod.path, "four"))


def test_a_del_without_a_namespace_releases(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    succeeded(subject.add(container, pod, "four"))

    succeeded(subject.delete(container, "", "four"))

    assert not subject.held(container)


def test_two_interfaces_of_one_container_go_one_by_one(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    first = succeeded(subject.add(container, pod, "four"))
    second = succeeded(subject.add(container, pod, "six", ifname="net1"))

    succeeded(subject.delete(container, pod.path, "six", ifname="net1"))

    assert subject.held(container) == set(addresses(first))
    assert addresses(first) != addresses(second)
    assert subject.node.ping(addresses(first)[0])
    succeeded(subject.delete(container, pod.path, "four"))


# --- bridge ----------------------------------------------------------------------------------------------------------------


def test_the_bridge_keeps_its_mac_whatever_joins_and_leaves_it(subject: Subject, pod_ns: MakePod) -> None:
    first, low = (subject.container(), pod_ns()), (subject.container(), pod_ns())
    bridge = succeeded(subject.add(*first, "four"))["interfaces"][0]

    # The kernel gives a bridge the lowest MAC of its ports unless it has one of its own.
    succeeded(subject.add(*low, "four", runtimeConfig={"mac": "00:00:00:00:00:11"}, capabilities={"mac": True}))

    assert shown(subject.node, "link", "show", "dev", bridge["name"])[0]["address"] == bridge["mac"]
    for container, pod in (first, low):
        succeeded(subject.delete(container, pod.path, "four"))
    assert shown(subject.node, "link", "show", "dev", bridge["name"])[0]["address"] == bridge["mac"]


def test_hairpin_and_isolation_are_set_where_asked(subject: Subject, pod_ns: MakePod) -> None:
    plain, asked = (subject.container(), pod_ns()), (subject.container(), pod_ns())

    hosts = [
        succeeded(subject.add(*plain, "four"))["interfaces"][1]["name"],
        succeeded(subject.add(*asked, "four", hairpinMode=True, portIsolation=True))["interfaces"][1]["name"],
    ]

    assert [(port(subject, name)["hairpin"], port(subject, name)["isolated"]) for name in hosts] == [(False, False), (True, True)]
    for container, pod in (plain, asked):
        succeeded(subject.delete(container, pod.path, "four"))


def test_a_spoof_check_comes_and_goes_with_its_pod(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    mac = succeeded(subject.add(container, pod, "four", macspoofchk=True))["interfaces"][2]["mac"]
    there = mac in subject.node.run("nft", "list", "ruleset").stdout

    succeeded(subject.delete(container, pod.path, "four", macspoofchk=True))

    assert there
    assert mac not in subject.node.run("nft", "list", "ruleset").stdout


def test_masquerade_hides_a_pod_while_it_lives(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()

    result = succeeded(subject.add(container, pod, "masked"))

    assert "masquerade" in subject.node.run("nft", "list", "ruleset").stdout
    succeeded(subject.delete(container, pod.path, "masked", prevResult=result))
    assert addresses(result)[0] not in subject.node.run("nft", "list", "ruleset").stdout


def test_the_configurations_dns_is_handed_on(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    dns = {"nameservers": ["192.0.2.53"], "domain": "cluster.example", "search": ["a.example", "b.example"], "options": ["ndots:5"]}

    result = succeeded(subject.add(container, pod, dns=dns))

    assert result["dns"] == dns
    succeeded(subject.delete(container, pod.path, dns=dns))


# --- asked for -------------------------------------------------------------------------------------------------------------

ADDRESS_SOURCES: list[dict[str, Any]] = [
    {"runtimeConfig": {"ips": ["10.78.9.9"]}, "capabilities": {"ips": True}},
    {"args": {"cni": {"ips": ["10.78.9.9"]}}},
]


@pytest.mark.parametrize("keys", ADDRESS_SOURCES)
def test_an_address_asked_for_is_given_once(subject: Subject, pod_ns: MakePod, keys: dict[str, Any]) -> None:
    container, pod = subject.container(), pod_ns()
    taken = wait_for_rest(subject, container, pod, keys)

    other, other_pod = subject.container(), pod_ns()
    refused(subject.add(other, other_pod, "four", **keys))

    assert addresses(taken) == ["10.78.9.9"]
    assert not subject.held(other)
    for each, where in ((container, pod), (other, other_pod)):
        succeeded(subject.delete(each, where.path, "four", **keys))


def wait_for_rest(subject: Subject, container: str, pod: Namespace, keys: dict[str, Any]) -> dict[str, Any]:
    """The address may rest for two seconds after an earlier case."""
    printed = wait_for("the address has rested", lambda: p if (p := subject.add(container, pod, "four", **keys)).exit == 0 else None)
    return succeeded(printed)


def test_an_address_is_believed_again_whose_former_owner_had_a_mac_of_its_own(ours: Shim, pod_ns: MakePod) -> None:
    """The node has a warm neighbour entry of the former owner. Another pod keeps the bridge's carrier, whose loss would empty them all."""
    (keeper, keeper_pod), first, second = [(ours.container(), pod_ns()) for _ in range(3)]
    succeeded(ours.add(keeper, keeper_pod, "four"))
    address = addresses(succeeded(ours.add(*first, "four", runtimeConfig={"mac": "02:11:22:33:44:66"})))[0]
    assert ours.node.ping(address)
    assert ours.delete(first[0], first[1].path, "four").exit == 0

    wait_for_rest(ours, *second, {"runtimeConfig": {"ips": [address]}})

    assert ours.node.ping(address)
    for container, pod in (second, (keeper, keeper_pod)):
        assert ours.delete(container, pod.path, "four").exit == 0


def test_an_address_outside_the_network_is_refused(subject: Subject, pod_ns: MakePod) -> None:
    container = subject.container()

    refused(subject.add(container, pod_ns(), "four", runtimeConfig={"ips": ["192.0.2.7"]}, capabilities={"ips": True}))

    assert not subject.held(container)


@pytest.mark.parametrize("text", ["10.78.0.0", "10.78.255.255"])
def test_a_networks_first_and_last_address_are_never_given(subject: Subject, pod_ns: MakePod, text: str) -> None:
    container = subject.container()

    refused(subject.add(container, pod_ns(), "four", runtimeConfig={"ips": [text]}, capabilities={"ips": True}))

    assert not subject.held(container)


MAC_SOURCES: list[tuple[dict[str, Any], str]] = [
    ({"runtimeConfig": {"mac": "02:11:22:33:44:01"}, "capabilities": {"mac": True}}, ""),
    ({"args": {"cni": {"mac": "02:11:22:33:44:01"}}}, ""),
    ({}, "IgnoreUnknown=1;MAC=02:11:22:33:44:01"),
    ({"args": {"cni": {"mac": "02:11:22:33:44:01"}}}, "IgnoreUnknown=1;MAC=02:11:22:33:44:02"),
    (
        {"runtimeConfig": {"mac": "02:11:22:33:44:01"}, "args": {"cni": {"mac": "02:11:22:33:44:02"}}},
        "IgnoreUnknown=1;MAC=02:11:22:33:44:03",
    ),
]


@pytest.mark.parametrize(("keys", "args"), MAC_SOURCES)
def test_a_mac_comes_from_the_highest_source_that_speaks(subject: Subject, pod_ns: MakePod, keys: dict[str, Any], args: str) -> None:
    container, pod = subject.container(), pod_ns()

    result = succeeded(subject.call("ADD", subject.config("four", **keys), container, pod.path, CNI_ARGS=args))

    assert result["interfaces"][2]["mac"] == "02:11:22:33:44:01"
    assert shown(pod, "link", "show", "dev", "eth0")[0]["address"] == "02:11:22:33:44:01"
    succeeded(subject.delete(container, pod.path, "four", **keys))


@pytest.mark.parametrize("args", ["IP=10.78.8.8", "IP=10.78.8.8/16;MAC=02:11:22:33:44:08"])
def test_podmans_address_by_arguments_is_given(ours: Shim, pod_ns: MakePod, args: str) -> None:
    container, pod = ours.container(), pod_ns()

    def add() -> dict[str, Any] | None:
        printed = ours.call("ADD", ours.config("four"), container, pod.path, CNI_ARGS=args)
        return succeeded(printed) if printed.exit == 0 else None

    assert addresses(wait_for("the address has rested", add)) == ["10.78.8.8"]
    succeeded(ours.delete(container, pod.path, "four"))


@pytest.mark.parametrize(
    ("text", "code"), [("192.0.2.7", 101), ("10.78.0.0", 101), ("2001:db8:78::5", 101), ("nonsense", None), ("::ffff:10.78.0.9", None)]
)
def test_an_address_that_cannot_be_given_is_refused_with_its_code(ours: Shim, pod_ns: MakePod, text: str, code: int | None) -> None:
    """F015 in part: an address in a mapped form is none of ours."""
    container = ours.container()

    found, sentence = refused(ours.add(container, pod_ns(), "four", runtimeConfig={"ips": [text]}))

    assert found in ((code,) if code else (4, 6, 7))
    assert text in sentence
    assert not ours.held(container)
