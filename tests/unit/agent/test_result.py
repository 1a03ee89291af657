"""CNI results and errors as JSON, in every version."""

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from fabricmgr.agent.result import (
    VERSIONS,
    CniResult,
    Dns,
    Interface,
    Ip,
    Route,
    decode_result,
    encode_bug,
    encode_refusal,
    encode_result,
    encode_versions,
    quoted_version,
)
from fabricmgr.domain.errors import CniConfiguration, PoolExhausted
from fabricmgr.problems import PROBLEMS

RESULT = CniResult(
    interfaces=(
        Interface("fmbr0", "0a:58:0a:00:00:01"),
        Interface("fm0123456789abc", "0a:00:00:00:00:02"),
        Interface("eth0", "0a:58:0a:0a:00:05", "/run/netns/a", mtu=1450),
    ),
    ips=(
        Ip(ip_address("10.10.0.5"), 32, ip_address("169.254.1.1"), 2),
        Ip(ip_address("2001:db8::5"), 128, ip_address("fe80::1"), 2),
    ),
    routes=(
        Route(ip_network("0.0.0.0/0"), ip_address("169.254.1.1")),
        Route(ip_network("::/0"), ip_address("fe80::1"), mtu=1400, priority=5),
    ),
    dns=Dns(("10.0.0.10",), search=("a.example",)),
)


def written(version: str, dns: Dns | None = None) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encode_result(RESULT, version, dns))
    return document


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_says_its_version_and_keeps_bridge_host_container_in_order(version: str) -> None:
    document = written(version)

    assert document["cniVersion"] == version
    assert [each["name"] for each in document["interfaces"]] == ["fmbr0", "fm0123456789abc", "eth0"]
    assert ["sandbox" in each for each in document["interfaces"]] == [False, False, True]


@pytest.mark.parametrize("version", VERSIONS)
def test_addresses_carry_their_ip_version_below_1_0_alone(version: str) -> None:
    ips = written(version)["ips"]

    assert [each.get("version") for each in ips] == (["4", "6"] if version < "1" else [None, None])
    assert ips[0].items() >= {"address": "10.10.0.5/32", "gateway": "169.254.1.1", "interface": 2}.items()
    assert ips[1].items() >= {"address": "2001:db8::5/128", "gateway": "fe80::1", "interface": 2}.items()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_1_1_added_is_not_shown_before_it(version: str) -> None:
    document = written(version)

    assert ("mtu" in document["interfaces"][2]) == (version == "1.1.0")
    assert document["routes"][1] == {"dst": "::/0", "gw": "fe80::1"} | ({"mtu": 1400, "priority": 5} if version == "1.1.0" else {})


def test_the_configurations_dns_beats_ours() -> None:
    assert written("1.0.0")["dns"] == {"nameservers": ["10.0.0.10"], "search": ["a.example"]}
    assert written("1.0.0", Dns())["dns"] == written("1.0.0")["dns"]
    assert written("1.0.0", Dns(domain="b.example"))["dns"] == {"domain": "b.example"}


def test_an_empty_result_is_a_result() -> None:
    assert json.loads(encode_result(CniResult(), "1.0.0")) == {"cniVersion": "1.0.0", "interfaces": [], "ips": [], "routes": [], "dns": {}}


def test_a_result_comes_back_whole_in_the_newest_version() -> None:
    assert decode_result(encode_result(RESULT, "1.1.0"), "1.1.0") == RESULT


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_of_the_reference_plugins_is_read(version: str) -> None:
    document = {
        "cniVersion": version,
        "interfaces": [{"name": "cni0", "mac": "aa:bb:cc:dd:ee:ff"}, {"name": "eth0", "sandbox": "/proc/1/ns/net"}],
        "ips": [{"version": "4", "interface": 1, "address": "10.22.0.5/16", "gateway": "10.22.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.1/8", "gw": "10.22.0.1"}],
        "dns": {},
        "more": True,
    }

    result = decode_result(json.dumps(document).encode(), version)

    assert result.ips == (Ip(ip_address("10.22.0.5"), 16, ip_address("10.22.0.1"), 1),)
    assert result.routes == (Route(ip_network("0.0.0.0/0")), Route(ip_network("10.0.0.0/8"), ip_address("10.22.0.1")))


@pytest.mark.parametrize("absent", [b"{}", b'{"interfaces":null,"ips":null,"routes":null,"dns":null}'])
def test_what_is_absent_or_null_is_empty(absent: bytes) -> None:
    assert decode_result(absent, "1.0.0") == CniResult()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'"x"',
        b'{"ips":[{"address":"10.0.0.1"}]}',
        b'{"ips":[{"address":"10.0.0.1/33"}]}',
        b'{"ips":[{"address":"10.0.0.1/32","gateway":"x"}]}',
        b'{"ips":[{"address":"10.0.0.1/32","interface":0}]}',
        b'{"ips":[{"address":"10.0.0.1/32","interface":-1}],"interfaces":[{"name":"a"}]}',
        b'{"ips":[{"address":"10.0.0.1/32","version":"6"}]}',
        b'{"ips":[{}]}',
        b'{"routes":[{"dst":"x"}]}',
        b'{"interfaces":[{"mac":"x"}]}',
        b'{"interfaces":{}}',
    ],
)
def test_what_is_no_result_is_code_7(document: bytes) -> None:
    with pytest.raises(CniConfiguration, match="prevResult"):
        decode_result(document, "0.4.0")

    assert PROBLEMS[CniConfiguration].cni == 7


def test_an_error_is_one_object_that_helps_by_its_message_alone() -> None:
    error = PoolExhausted("pods", "IPv4", "add a prefix to it")

    document = json.loads(encode_refusal(error, "0.4.0", "network podnet"))

    assert document == {
        "cniVersion": "0.4.0",
        "code": 11,
        "msg": "pool 'pods' has no free IPv4 address; add a prefix to it",
        "details": "network podnet",
    }


def test_a_bug_shows_nothing_of_its_inside() -> None:
    document = json.loads(encode_bug("1.0.0"))

    assert document["code"] == 999
    assert "log" in document["msg"]


def test_bytes_that_are_no_text_are_shown_escaped() -> None:
    result = CniResult((Interface("eth0", sandbox="/tmp/\udcff"),))

    assert json.loads(encode_result(result, "1.0.0"))["interfaces"][0]["sandbox"] == "/tmp/\\udcff"
    assert "\\udcff" in json.loads(encode_refusal(CniConfiguration("/tmp/\udcff"), "1.0.0"))["msg"]


def test_version_tells_all_that_are_served() -> None:
    assert json.loads(encode_versions()) == {"cniVersion": "1.1.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b'{"cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"cniVersion" :\n"1.1.0", nonsense', "1.1.0"),
        (b'{"cniVersion":"0.2.0"}', "1.0.0"),
        (b"", "1.0.0"),
    ],
)
def test_an_error_quotes_the_version_of_a_configuration_that_nobody_could_decode(stdin: bytes, version: str) -> None:
    assert quoted_version(stdin) == version
