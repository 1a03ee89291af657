"""Whatever comes over the plugin's socket becomes a request or a refusal, and results pass through every version and back."""

import json
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fabricmgr.agent.frame import Answer, Frame, encode_answer, encode_frame, parse_answer, parse_frame
from fabricmgr.agent.request import Command, parse_request
from fabricmgr.agent.result import (
    VERSIONS,
    CniResult,
    Dns,
    Interface,
    Ip,
    Route,
    decode_result,
    encode_refusal,
    encode_result,
    quoted_version,
)
from fabricmgr.domain.errors import FabricError

FULL = Frame(
    "fabricmgr-cni",
    "ADD",
    "c1",
    "/run/netns/a",
    "eth0",
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_UID=u;IP=10.0.0.5",
    "/opt/cni/bin",
    "1",
    stdin=json.dumps(
        {
            "cniVersion": "1.1.0",
            "name": "podnet",
            "type": "fabricmgr-cni",
            "mtu": 1400,
            "isDefaultGateway": True,
            "dns": {"nameservers": ["10.0.0.10"]},
            "runtimeConfig": {"ips": ["10.0.0.7/24"], "mac": "02:00:00:00:00:01"},
            "args": {"cni": {"ips": ["10.0.0.8"]}},
            "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "e"}],
        }
    ).encode(),
)
AFTER_ADD = replace(FULL, stdin=FULL.stdin[:-1] + b',"prevResult":{"ips":[{"address":"10.0.0.7/32"}],"routes":[{"dst":"::/0"}]}}')
FRAMES = [encode_frame(replace(AFTER_ADD if command is Command.CHECK else FULL, command=command.value))[4:] for command in Command]

texts = st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"").decode(errors="surrogateescape"))
"""What a variable may hold: bytes without NUL, those that are no UTF-8 as surrogates."""


def served(body: bytes) -> bool:
    """Do as the server does. True for a request; a refusal must be one that a runtime can read."""
    try:
        parse_request(parse_frame(body))
    except FabricError as error:
        document = json.loads(encode_refusal(error, quoted_version(body)))
        assert document["code"] in range(1, 12)
        assert document["msg"]
        return False
    return True


def test_every_frame_is_served_whole() -> None:
    assert [served(body) for body in FRAMES] == [True] * len(FRAMES)


def test_frames_cut_at_every_byte_are_refused_or_served() -> None:
    for body in FRAMES:
        outcomes = [served(body[:end]) for end in range(len(body))]

        assert not any(outcomes[: body.index(b"{")])


def test_frames_with_every_byte_changed_are_refused_or_served() -> None:
    for body in FRAMES:
        for at, byte in enumerate(body):
            for other in (0, byte ^ 1, byte ^ 0x80, 0x22, 0x7B, 0xFF):
                served(body[:at] + bytes((other,)) + body[at + 1 :])


@given(st.lists(st.sampled_from(FRAMES), min_size=2, max_size=3).map(b"".join), st.integers(0, 2000), st.integers(0, 2000))
def test_frames_joined_and_cut_anywhere_are_refused_or_served(joined: bytes, start: int, end: int) -> None:
    served(joined)
    served(joined[start:end])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_served(body: bytes) -> None:
    served(body)
    served(b"1\0" + body)


OURS = ("cniVersion", "name", "type", "mtu", "vlan", "ipam", "dns", "args", "cni", "ips", "mac", "runtimeConfig", "prevResult", "address")
THEIRS = (
    "interfaces",
    "routes",
    "dst",
    "interface",
    "version",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
    "containerID",
    "ifname",
)
keys = st.sampled_from(OURS + THEIRS)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["1.1.0", "podnet", "fabricmgr-cni", "10.0.0.1/32"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(list(Command)), st.dictionaries(keys, json_values))
def test_any_configuration_is_refused_or_served(command: Command, changed: dict[str, Any]) -> None:
    stdin = json.dumps(json.loads(FULL.stdin) | changed).encode()

    served(encode_frame(replace(FULL, command=command.value, stdin=stdin))[4:])


@given(texts, texts, texts, texts, texts, texts, texts, texts, st.binary())
def test_a_frame_comes_back_as_it_went(
    plugin: str, command: str, container: str, netns: str, ifname: str, args: str, path: str, override: str, stdin: bytes
) -> None:
    frame = Frame(plugin, command, container, netns, ifname, args, path, override, stdin=stdin)

    data = encode_frame(frame)

    assert int.from_bytes(data[:4], "little") == len(data) - 4
    assert encode_frame(parse_frame(data[4:])) == data


@given(st.integers(0, 1), st.binary())
def test_an_answer_comes_back_as_it_went(status: int, stdout: bytes) -> None:
    assert parse_answer(encode_answer(Answer(status, stdout))) == Answer(status, stdout)


# --- results ---------------------------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
numbers = st.none() | st.integers(0, 2**31)
v4, v6 = st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address)
addresses = v4 | v6


def _interface_address(number: int, length: int) -> IPv4Interface | IPv6Interface:
    return IPv4Interface((number % 2**32, length)) if length <= 32 and number % 2 else IPv6Interface((number, length))


def _prefix(number: int, length: int) -> IPv4Network | IPv6Network:
    return _interface_address(number, length).network


interfaces = st.builds(Interface, words, words | st.just(""), words | st.just(""), numbers, words | st.just(""), words | st.just(""))


def _ip(shown: IPv4Interface | IPv6Interface, gateway: IPv4Address | IPv6Address | None) -> Ip:
    return Ip(shown.ip, shown.network.prefixlen, gateway)


ips = st.builds(_ip, st.builds(_interface_address, st.integers(0, 2**128 - 1), st.integers(0, 128)), st.none() | addresses)
routes = st.builds(
    Route,
    st.builds(_prefix, st.integers(0, 2**128 - 1), st.integers(0, 128)),
    st.none() | addresses,
    numbers,
    numbers,
    numbers,
    numbers,
    numbers,
)
dns = st.builds(Dns, st.lists(words).map(tuple), words | st.just(""), st.lists(words).map(tuple), st.lists(words).map(tuple))


@st.composite
def results(draw: st.DrawFn) -> CniResult:
    shown = tuple(draw(st.lists(interfaces, max_size=4)))
    places = st.none() | st.integers(0, len(shown) - 1) if shown else st.none()
    held = tuple(replace(ip, interface=draw(places)) for ip in draw(st.lists(ips, max_size=3)))
    return CniResult(shown, held, tuple(draw(st.lists(routes, max_size=3))), draw(dns))


def older(result: CniResult) -> CniResult:
    """What a result is without what 1.1.0 added."""
    return replace(
        result,
        interfaces=tuple(Interface(each.name, each.mac, each.sandbox) for each in result.interfaces),
        routes=tuple(Route(each.dst, each.gateway) for each in result.routes),
    )


@given(results())
def test_results_pass_through_every_version_and_back(result: CniResult) -> None:
    for version in VERSIONS:
        expected = result if version == "1.1.0" else older(result)

        assert decode_result(encode_result(result, version), version) == expected


@given(results())
def test_a_result_written_in_one_version_is_read_in_every_other(result: CniResult) -> None:
    for written in VERSIONS:
        for read in VERSIONS:
            newest = written == read == "1.1.0"

            assert decode_result(encode_result(result, written), read) == (result if newest else older(result))
