"""A call of the plugin becomes a typed request, or one clear sentence (CNI SPEC 1.1.0, sections 1 and 2)."""

import json
from ipaddress import ip_address
from itertools import combinations
from typing import Any

import pytest
from msgspec.structs import replace

from fabricmgr.agent.frame import Frame
from fabricmgr.agent.request import CniRequest, Command, parse_request
from fabricmgr.agent.result import VERSIONS, CniResult, Dns
from fabricmgr.domain.errors import CniEnvironment, FabricError
from fabricmgr.domain.owner import Pod
from fabricmgr.problems import problem_of, sentence

CONFIG: dict[str, Any] = {"cniVersion": "1.1.0", "name": "podnet", "type": "fabricmgr-cni"}
PREV = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/a"}], "ips": []}
FRAME = Frame("fabricmgr-cni", "ADD", "c1", "/run/netns/a", "eth0", "", "/opt/cni/bin")
FIELDS = {"CNI_CONTAINERID": "container", "CNI_NETNS": "netns", "CNI_IFNAME": "ifname", "CNI_PATH": "path"}


def parse(command: str = "ADD", variables: dict[str, Any] | None = None, **keys: Any) -> CniRequest:
    """A call with these variables beside the usual ones, and these keys in its configuration; a key that is ... is left out."""
    config = {name: value for name, value in (CONFIG | keys).items() if value is not ...}
    if command == "CHECK" and "prevResult" not in keys:
        config["prevResult"] = PREV
    return parse_request(replace(FRAME, command=command, stdin=json.dumps(config).encode(), **(variables or {})))


def refusal(command: str = "ADD", variables: dict[str, Any] | None = None, **keys: Any) -> tuple[int, str]:
    """Code and sentence of a call that is refused."""
    with pytest.raises(FabricError) as raised:
        parse(command, variables, **keys)
    return problem_of(raised.value).cni, sentence(raised.value)


# --- variables -------------------------------------------------------------------------------------------------------

REQUIRED = {
    "ADD": {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"},
    "CHECK": {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"},
    "DEL": {"CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"},
    "GC": {"CNI_PATH"},
    "STATUS": {"CNI_PATH"},
}
MISSING = [(command, missing) for command in REQUIRED for size in range(1, 5) for missing in combinations(sorted(FIELDS), size)]


@pytest.mark.parametrize(("command", "missing"), MISSING)
def test_all_missing_variables_stand_in_one_message(command: str, missing: tuple[str, ...]) -> None:
    needed = REQUIRED[command] & set(missing)
    variables = {FIELDS[name]: "" for name in missing}

    if not needed:
        assert parse(command, variables).command is Command(command)
        return
    code, text = refusal(command, variables)

    assert code == 4
    assert {name for name in FIELDS if name in text} == needed


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_missing_and_malformed_variables_are_told_together(command: str) -> None:
    code, text = refusal(command, {"container": "../x", "ifname": "a/b", "path": ""})

    assert code == 4
    assert all(word in text for word in ("CNI_PATH missing", "'../x'", "'a/b'"))


@pytest.mark.parametrize("container", ["-c1", ".c1", "_c1", "a b", "a/b", "a\nb", "ä", "c\udcff", "x" * 254])
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_a_container_id_has_its_alphabet(command: str, container: str) -> None:
    assert refusal(command, {"container": container})[0] == 4


@pytest.mark.parametrize("container", ["c", "0", "a_b.c-d", "x" * 253])
def test_a_proper_container_id_is_taken(container: str) -> None:
    assert parse(variables={"container": container}).container == container


@pytest.mark.parametrize("ifname", [".", "..", "a/b", "a:b", "a b", "a\tb", "x" * 16, "ä" * 8, "\udcff"])
def test_an_interface_name_has_the_kernels_rule(ifname: str) -> None:
    assert refusal(variables={"ifname": ifname})[0] == 4


def test_a_message_about_bytes_that_are_no_text_can_be_written() -> None:
    refusal(variables={"ifname": "\udcff", "container": "\udc80"})[1].encode()


@pytest.mark.parametrize("command", ["", "add", "UPDATE", "ADD "])
def test_an_unknown_command_is_refused_with_the_known_ones(command: str) -> None:
    code, text = refusal(command)

    assert code == 4
    assert "CNI_COMMAND" in text


def test_operations_without_a_container_ignore_what_stands_in_its_variables() -> None:
    request = parse("STATUS", {"container": "../x", "ifname": "", "netns": "dummy", "args": "=;="})

    assert (request.container, request.ifname, request.netns) == ("", "", "")


@pytest.mark.parametrize("args", ["A=1", "IgnoreUnknown=0;A=1", "IP=10.0.0.1;B=2", "A", "=1;IgnoreUnknown"])
def test_an_unknown_key_of_the_arguments_is_an_error(args: str) -> None:
    assert refusal(variables={"args": args})[0] == 4


@pytest.mark.parametrize(
    "args", ["IgnoreUnknown=1;A=1", "A=1;IgnoreUnknown=true", "A=;IgnoreUnknown=TRUE", ";IgnoreUnknown=1;", "K8S_POD_UID=u"]
)
def test_an_unknown_key_is_ignored_where_the_caller_says_so_in_any_order(args: str) -> None:
    assert parse(variables={"args": args}).command is Command.ADD


def test_a_del_is_not_held_up_by_arguments() -> None:
    assert parse("DEL", {"args": "nonsense"}).command is Command.DEL


def test_a_pod_is_one_with_namespace_and_uid() -> None:
    whole = parse(variables={"args": "K8S_POD_UID=u1;K8S_POD_NAME=web;IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_INFRA_CONTAINER_ID=i"})
    podmans = parse(variables={"args": "IgnoreUnknown=1;K8S_POD_NAME=web"})

    assert whole.pod == Pod("shop", "web", "u1")
    assert podmans.pod is None


def test_our_own_namespace_is_allowed_by_its_variable_alone() -> None:
    assert [parse(variables={"netns_override": text}).own_namespace_allowed for text in ("", "0", "1", "true")] == [
        False,
        False,
        True,
        True,
    ]


# --- the configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", list(REQUIRED))
@pytest.mark.parametrize(
    "stdin", [b"", b"  ", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"name":1}', b"[" * 5000, b'{"cniVersion":["1.0.0"]}']
)
def test_a_configuration_that_cannot_be_decoded_is_code_6(command: str, stdin: bytes) -> None:
    with pytest.raises(FabricError) as raised:
        parse_request(replace(FRAME, command=command, stdin=stdin))

    assert problem_of(raised.value).cni == 6


@pytest.mark.parametrize("command", list(REQUIRED))
@pytest.mark.parametrize("version", [..., "", "0.1.0", "0.2.0", "1.0", "1.2.0", "2.0.0", "abc", "1.1.0 "])
def test_a_version_that_is_not_served_is_code_1(command: str, version: object) -> None:
    code, text = refusal(command, cniVersion=version)

    assert code == 1
    assert "0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0" in text


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("command", "since"), [("ADD", "0"), ("DEL", "0"), ("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")])
def test_an_operation_exists_from_its_version_on(command: str, since: str, version: str) -> None:
    if version >= since:
        assert parse(command, cniVersion=version).config.version == version
        return

    code, text = refusal(command, cniVersion=version)

    assert code == 1
    assert f"{command} exists from {since} on" in text


@pytest.mark.parametrize("command", list(REQUIRED))
@pytest.mark.parametrize("name", [..., "", "-a", "a b", "a/b", "x" * 254])
def test_a_network_without_a_proper_name_is_code_7(command: str, name: object) -> None:
    assert refusal(command, name=name)[0] == 7


@pytest.mark.parametrize("command", list(REQUIRED))
def test_a_configuration_without_type_is_code_7(command: str) -> None:
    assert refusal(command, type=...)[0] == 7


def test_what_a_configuration_asks_for_arrives() -> None:
    config = parse(
        bridge="br7", mtu=1400, isGateway=True, isDefaultGateway=False, ipMasq=True, hairpinMode=True, portIsolation=True, macspoofchk=True,
        dns={"nameservers": ["10.0.0.10"], "domain": "a.example", "search": ["b.example"], "options": ["ndots:5"]},
    ).config  # fmt: skip

    assert (config.name, config.version, config.type, config.bridge, config.mtu) == ("podnet", "1.1.0", "fabricmgr-cni", "br7", 1400)
    assert (config.default_gateway, config.masquerade) == (False, True)
    assert (config.hairpin, config.port_isolation, config.mac_spoof_check) == (True, True, True)
    assert config.dns == Dns(("10.0.0.10",), "a.example", ("b.example",), ("ndots:5",))


def test_what_a_configuration_does_not_say_is_left_to_the_network() -> None:
    config = parse(mtu=None, bridge="", dns=None).config

    assert (config.bridge, config.mtu, config.default_gateway, config.masquerade) == ("", None, None, None)


def test_two_interfaces_of_one_container_may_each_insist_on_the_default_route() -> None:
    """F009: who insists, who declines and who takes what is free are told apart, so that the second ADD can be judged."""
    asked = [parse(isDefaultGateway=value).config.default_gateway for value in (True, False, None, ...)]

    assert asked == [True, False, None, None]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vlan", 5),
        ("vlanTrunk", [{"id": 5}]),
        ("promiscMode", True),
        ("forceAddress", True),
        ("disableContainerInterface", True),
        ("enabledad", True),
        ("ipMasqBackend", "iptables"),
        ("isGateway", False),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "CHECK", "STATUS"])
def test_a_key_that_is_known_and_not_served_is_refused_by_name_and_value(command: str, key: str, value: Any) -> None:
    code, text = refusal(command, **{key: value})

    assert code == 2
    assert f"{key}: {json.dumps(value, separators=(',', ':'))}" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vlan", 0),
        ("vlanTrunk", []),
        ("promiscMode", False),
        ("preserveDefaultVlan", True),
        ("ipMasqBackend", "nftables"),
        ("enabledad", None),
    ],
)
def test_a_key_that_asks_for_nothing_is_taken(key: str, value: Any) -> None:
    assert parse(**{key: value}).config == parse().config


def test_unknown_keys_are_tolerated() -> None:
    keys: dict[str, Any] = {"colour": "blue", "x": {"deep": [1]}, "capabilities": {"portMappings": True}, "args": {"cni": {"labels": []}}}

    assert parse(**keys) == parse()


@pytest.mark.parametrize(
    ("key", "value"), [("mtu", "1500"), ("ipMasq", "yes"), ("bridge", 7), ("dns", []), ("runtimeConfig", []), ("args", 1)]
)
def test_a_value_of_the_wrong_type_is_code_6_and_named(key: str, value: Any) -> None:
    code, text = refusal(**{key: value})

    assert code == 6
    assert key in text


@pytest.mark.parametrize(("key", "value"), [("mtu", 67), ("mtu", 65536), ("mtu", -1), ("bridge", "a/b"), ("bridge", "x" * 16)])
def test_a_value_that_cannot_be_right_is_code_7_and_named(key: str, value: Any) -> None:
    code, text = refusal(**{key: value})

    assert code == 7
    assert key in text
    assert str(value) in text


@pytest.mark.parametrize("command", ["DEL", "GC"])
@pytest.mark.parametrize(
    "keys",
    [
        {"vlan": 5},
        {"mtu": "wide"},
        {"prevResult": "lost"},
        {"prevResult": {"ips": [{"address": "nonsense"}]}},
        {"runtimeConfig": {"portMappings": [1], "ips": ["x"]}},
        {"ipam": {"type": "host-local"}},
        {"ipam": 3},
        {"type": "macvlan", "ipam": {"type": "fabricmgr-cni"}},
    ],
)
def test_what_takes_away_is_held_up_by_nothing_that_an_add_would_refuse(command: str, keys: dict[str, Any]) -> None:
    request = parse(command, **keys)

    assert (request.network, request.prev, request.asked) == ("podnet", None, ())


# --- modes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ADD", "CHECK", "STATUS"])
def test_delegated_ipam_is_refused_with_both_plugins_named(command: str) -> None:
    code, text = refusal(command, type="macvlan", ipam={"type": "fabricmgr-cni"})

    assert code == 2
    assert "macvlan" in text
    assert "not served yet" in text


def test_a_chained_configuration_is_refused() -> None:
    code, text = refusal(prevResult=PREV)

    assert code == 7
    assert "first in the list" in text


def test_a_configuration_that_names_us_nowhere_is_refused() -> None:
    assert refusal(type="bridge", ipam={"type": "host-local"})[0] == 7


def test_our_type_is_the_name_we_were_called_by() -> None:
    request = parse_request(replace(FRAME, plugin="fm", stdin=json.dumps(CONFIG | {"type": "fm"}).encode()))

    assert request.config.type == "fm"
    assert refusal(type="fm")[0] == 7


@pytest.mark.parametrize("ipam", [{}, {"type": ""}, {"type": "fabricmgr-cni"}, None])
def test_an_ipam_that_adds_nothing_is_taken(ipam: object) -> None:
    assert parse(ipam=ipam) == parse()


@pytest.mark.parametrize(
    "ipam", [{"type": "host-local"}, {"subnet": "10.0.0.0/24"}, {"type": "fabricmgr-cni", "ranges": [[{"subnet": "10.0.0.0/24"}]]}]
)
def test_an_ipam_that_would_change_where_addresses_come_from_is_refused(ipam: dict[str, object]) -> None:
    code, text = refusal(ipam=ipam)

    assert code == 2
    assert "ipam." in text


# --- prevResult and GC's list ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prev", [..., None])
def test_check_needs_the_result_of_its_add(prev: object) -> None:
    code, text = refusal("CHECK", prevResult=prev)

    assert code == 7
    assert "prevResult" in text


def test_check_gets_its_result_typed() -> None:
    prev = parse("CHECK").prev

    assert isinstance(prev, CniResult)
    assert [each.sandbox for each in prev.interfaces] == ["/run/netns/a"]


@pytest.mark.parametrize(
    ("keys", "valid"),
    [
        ({}, None),
        ({"cni.dev/valid-attachments": []}, set()),
        ({"cni.dev/valid-attachments": None}, set()),
        ({"cni.dev/attachments": None}, set()),
        ({"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}, {("a", "eth0")}),
        ({"cni.dev/attachments": [{"containerID": "a", "ifname": "eth0", "more": 1}]}, {("a", "eth0")}),
        ({"cni.dev/attachments": [], "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "e"}]}, {("a", "e")}),
    ],
)
def test_a_list_is_a_statement_and_no_key_is_none(keys: dict[str, Any], valid: set[tuple[str, str]] | None) -> None:
    assert parse("GC", **keys).valid == valid


@pytest.mark.parametrize("stated", [[{"containerID": "a"}], [{"containerid": "a", "ifname": "e"}], ["a"], {}, "a", [None]])
def test_a_list_that_cannot_be_read_whole_frees_nothing(stated: Any) -> None:
    assert refusal("GC", **{"cni.dev/valid-attachments": stated})[0] == 6


# --- what is asked for ---------------------------------------------------------------------------------------------------------

SOURCES: list[tuple[dict[str, Any], str, list[str], str]] = [
    ({"runtimeConfig": {"ips": ["10.0.0.1"], "mac": "02:00:00:00:00:01"}}, "", ["10.0.0.1"], "02:00:00:00:00:01"),
    ({"args": {"cni": {"ips": ["10.0.0.2/24"], "mac": "02-00-00-00-00-02"}}}, "", ["10.0.0.2"], "02:00:00:00:00:02"),
    ({}, "IP=10.0.0.3;MAC=02:00:00:00:00:0A", ["10.0.0.3"], "02:00:00:00:00:0a"),
]


@pytest.mark.parametrize("speaking", [speaking for size in (1, 2, 3) for speaking in combinations(range(3), size)])
def test_the_highest_source_that_speaks_counts_alone_and_the_others_are_told(speaking: tuple[int, ...]) -> None:
    keys = {name: value for number in speaking for name, value in SOURCES[number][0].items()}
    args = "".join(SOURCES[number][1] for number in speaking)

    request = parse(variables={"args": args}, **keys)

    assert [str(each) for each in request.asked] == SOURCES[speaking[0]][2]
    assert request.mac == SOURCES[speaking[0]][3]
    assert len(request.ignored) == 2 * (len(speaking) - 1)


def test_address_and_mac_may_come_from_different_sources() -> None:
    request = parse(variables={"args": "IP=10.0.0.3;MAC=02:00:00:00:00:03"}, runtimeConfig={"ips": ["2001:DB8::5"]})

    assert request.asked == (ip_address("2001:db8::5"),)
    assert request.mac == "02:00:00:00:00:03"


@pytest.mark.parametrize("key", ["ips", "IPs", "IPS"])
def test_capabilities_are_matched_without_case(key: str) -> None:
    assert parse(runtimeConfig={key: ["10.0.0.1", "2001:db8::1/64", "10.0.0.1"]}).asked == (
        ip_address("10.0.0.1"),
        ip_address("2001:db8::1"),
    )


@pytest.mark.parametrize("key", ["portMappings", "bandwidth", "HostPort", "cgroupPath"])
def test_a_capability_that_is_not_served_is_refused_unless_empty(key: str) -> None:
    code, text = refusal(runtimeConfig={key: [{"hostPort": 80}]})

    assert code == 2
    assert key.lower() in text
    assert parse(runtimeConfig={key: []}) == parse()


def test_two_addresses_of_one_family_are_refused() -> None:
    code, text = refusal(runtimeConfig={"ips": ["10.0.0.1", "10.0.0.2"]})

    assert code == 2
    assert "10.0.0.1, 10.0.0.2" in text


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.1/33", "10.0.0.1/", "fe80::1%eth0", "::ffff:10.0.0.1", "x"])
def test_an_address_that_is_none_is_refused_from_every_source(text: str) -> None:
    assert refusal(runtimeConfig={"ips": [text]})[0] == 7
    assert refusal(args={"cni": {"ips": [text]}})[0] == 7
    assert not text or refusal(variables={"args": f"IP={text}"})[0] == 7


@pytest.mark.parametrize(
    "mac", ["02:00:00:00:00", "02:00:00:00:00:0g", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "020000000001", "x"]
)
def test_a_mac_that_no_interface_may_have_is_refused_from_every_source(mac: str) -> None:
    assert refusal(runtimeConfig={"mac": mac})[0] == 7
    assert refusal(args={"cni": {"mac": mac}})[0] == 7
    assert refusal(variables={"args": f"MAC={mac}"})[0] == 7


def test_errors_about_variables_come_before_errors_about_the_configuration() -> None:
    with pytest.raises(CniEnvironment):
        parse_request(replace(FRAME, container="", stdin=b"{"))
