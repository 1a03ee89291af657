"""The protocol of CNI SPEC 1.1.0: what comes in by variables and stdin, and what goes out by stdout and exit code."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.netns import Namespace
from tests.support.subjects import VERSIONS, Shim, Subject, refused, succeeded

MakePod = Callable[[], Namespace]


# --- variables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_all_missing_variables_are_named_in_one_message(subject: Subject, command: str) -> None:
    needed = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH", *([] if command == "DEL" else ["CNI_NETNS"])]

    code, sentence = refused(subject.call(command, subject.config(prevResult={"cniVersion": "1.1.0"}), ifname="", CNI_PATH=""))

    assert code == 4
    assert [name for name in needed if name not in sentence] == []


@pytest.mark.parametrize("variable", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"])
def test_each_needed_variable_is_missed(subject: Subject, pod_ns: MakePod, variable: str) -> None:
    code, sentence = refused(subject.call("ADD", subject.config(), subject.container(), pod_ns().path, **{variable: ""}))

    assert code == 4
    assert variable in sentence
    assert [name for name in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH") if name in sentence] == [variable]


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_gc_and_status_need_no_container(ours: Shim, command: str) -> None:
    succeeded(ours.call(command, ours.config(), ifname=""))


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CNI_CONTAINERID", "-begins-wrong"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_IFNAME", "sixteen-is-too-l"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
    ],
)
def test_an_id_or_interface_name_that_cannot_be_is_refused(subject: Subject, pod_ns: MakePod, variable: str, text: str) -> None:
    before = subject.links()

    code, _ = refused(subject.call("ADD", subject.config(), **{"container": subject.container(), "netns": pod_ns().path, variable: text}))

    assert code == 4
    assert subject.links() == before


def test_an_unknown_key_of_the_arguments_is_refused_unless_the_caller_says_ignore(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    before = subject.links()

    refused(subject.call("ADD", subject.config(), container, pod.path, CNI_ARGS="COLOUR=blue"))

    assert subject.links() == before
    succeeded(subject.call("ADD", subject.config(), container, pod.path, CNI_ARGS="COLOUR=blue;IgnoreUnknown=true"))
    succeeded(subject.delete(container, pod.path))


@pytest.mark.parametrize("insists", ["", "1", "true"])
def test_a_nodes_own_namespace_is_refused_whatever_the_caller_insists_on(ours: Shim, insists: str) -> None:
    """The bridge's gateway is the node itself: a link of ours in its namespace could reach nothing."""
    container, before = ours.container(), ours.links()

    printed = ours.call("ADD", ours.config("four"), container, ours.node.path, ifname="own0", CNI_NETNS_OVERRIDE=insists)

    assert refused(printed)[0] == 8
    assert ours.links() == before
    assert not ours.held(container)
    succeeded(ours.call("DEL", ours.config("four"), container, ours.node.path, ifname="own0", CNI_NETNS_OVERRIDE=insists))


def test_an_unknown_command_is_refused(subject: Subject) -> None:
    assert refused(subject.call("EXPLODE", subject.config(), "c1", "/proc/self/ns/net"))[0] == 4


def test_without_a_command_a_person_reads_a_line_about_the_plugin(subject: Subject) -> None:
    printed = subject.call("", b"", ifname="", CNI_PATH="")

    assert printed.exit == 0
    assert printed.stdout == b""
    assert printed.stderr.strip()


def test_version_looks_at_nothing_else(subject: Subject) -> None:
    """Podman fills the other variables with `dummy`."""
    printed = subject.call("VERSION", b'{"cniVersion": "1.0.0"}', "dummy", "dummy", ifname="dummy", CNI_PATH="dummy", CNI_ARGS="dummy")

    found = succeeded(printed)
    assert set(VERSIONS) <= set(found["supportedVersions"])
    assert found["cniVersion"] == "1.1.0"


def test_version_is_answered_with_no_agent_and_no_stdin(ours: Shim) -> None:
    found = succeeded(ours.call("VERSION", b"", ifname="", CNI_PATH="", FABRICMGR_SOCKET="/nonexistent/agent.sock"))

    assert tuple(found["supportedVersions"]) == VERSIONS


# --- configuration ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stdin", [b"", b"{", b"[]", b"null", b'{"cniVersion": "1.1.0", "name": 7, "type": "fabricmgr-cni"}'])
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_stdin_that_is_no_configuration_is_refused(subject: Subject, pod_ns: MakePod, command: str, stdin: bytes) -> None:
    refused(subject.call(command, stdin, subject.container(), pod_ns().path))


@pytest.mark.parametrize("version", [None, "0.1.0", "0.2.0", "1.2.0", "2.0", "one"])
def test_a_version_that_is_not_served_is_code_1(ours: Shim, pod_ns: MakePod, version: str | None) -> None:
    assert refused(ours.call("ADD", ours.config(cniVersion=version), ours.container(), pod_ns().path))[0] == 1


@pytest.mark.parametrize("version", ["1.2.0", "2.0.0"])
def test_a_version_of_the_future_is_refused_by_all(subject: Subject, pod_ns: MakePod, version: str) -> None:
    assert refused(subject.call("ADD", subject.config(version=version), subject.container(), pod_ns().path))[0] == 1


@pytest.mark.parametrize("name", [None, "", "-x", "a/b", "a b"])
def test_a_network_without_a_proper_name_is_refused(subject: Subject, pod_ns: MakePod, name: str | None) -> None:
    assert refused(subject.call("ADD", subject.config(name=name), subject.container(), pod_ns().path))[0] == 7


def test_a_network_that_is_not_there_is_named(ours: Shim, pod_ns: MakePod) -> None:
    _, sentence = refused(ours.call("ADD", ours.config("nowhere"), ours.container(), pod_ns().path))

    assert "'nowhere'" in sentence


@pytest.mark.parametrize(("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0")])
def test_an_operation_of_a_later_version_is_code_1(subject: Subject, pod_ns: MakePod, command: str, version: str) -> None:
    keys: dict[str, Any] = {"prevResult": {"cniVersion": version}, "cni.dev/valid-attachments": []}
    config = subject.config(version=version, **keys)

    assert refused(subject.call(command, config, subject.container(), pod_ns().path))[0] == 1


def test_keys_that_nobody_knows_are_tolerated(subject: Subject, pod_ns: MakePod) -> None:
    container, pod = subject.container(), pod_ns()
    keys: dict[str, Any] = {"colour": "blue", "capabilities": {"ips": True, "mac": True}, "args": {"labels": {"a": "b"}}}

    succeeded(subject.add(container, pod, **keys))

    succeeded(subject.delete(container, pod.path, **keys))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vlan", 100),
        ("vlanTrunk", [{"id": 5}]),
        ("promiscMode", True),
        ("forceAddress", True),
        ("disableContainerInterface", True),
        ("isGateway", False),
        ("ipam", {"type": "host-local"}),
        ("runtimeConfig", {"PortMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]}),
    ],
)
def test_a_key_that_is_known_and_not_served_is_code_2_by_name_and_value(ours: Shim, pod_ns: MakePod, key: str, value: Any) -> None:
    container, pod = ours.container(), pod_ns()

    code, sentence = refused(ours.add(container, pod, **{key: value}))

    assert code == 2
    assert key.lower() in sentence.lower()
    assert "host-local" in sentence or json.dumps(value, separators=(",", ":")) in sentence or "80" in sentence
    succeeded(ours.delete(container, pod.path, **{key: value}))


def test_our_addresses_for_anothers_interface_are_refused(ours: Shim, pod_ns: MakePod) -> None:
    code, sentence = refused(ours.add(ours.container(), pod_ns(), type="macvlan", ipam={"type": "fabricmgr-cni"}))

    assert code == 2
    assert "macvlan" in sentence


def test_standing_behind_another_plugin_is_refused(ours: Shim, pod_ns: MakePod) -> None:
    code, sentence = refused(ours.add(ours.container(), pod_ns(), prevResult={"cniVersion": "1.1.0", "interfaces": [], "ips": []}))

    assert code == 7
    assert "put it first in the list" in sentence


# --- errors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_object_names_the_callers_version(subject: Subject, pod_ns: MakePod, version: str) -> None:
    pod = pod_ns()
    pod.run("ip", "link", "add", "eth0", "type", "bridge")

    printed = subject.call("ADD", subject.config("four", version), subject.container(), pod.path)

    refused(printed)
    said = json.loads(printed.stdout).get("cniVersion")
    assert said == version, f"the error object says cniVersion {said!r}"
