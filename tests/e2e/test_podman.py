"""Podman with its CNI backend calls our plugin: a real agent behind the shim, a real manager behind the agent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fabricmgr.agent.plugin import PLUGIN
from tests.support import shims
from tests.support.node_agent import wait_for
from tests.support.podman import Podman, podman
from tests.support.site import Site, site

pytestmark = pytest.mark.podman


@pytest.fixture(scope="module")
def here() -> Iterator[Site]:
    with site() as made:
        made.manager.make_network("podnet", "10.77.0.0/16", "2001:db8:77::/112", pool={"cooldown_seconds": 1})
        made.start("podnet")
        yield made


@contextmanager
def engine(here: Site, folder: Path, shim: bytes | None = None) -> Iterator[Podman]:
    """A Podman that has our plugin. shim: another program in its place."""
    real, plugins = folder / "real", folder / "bin"
    real.mkdir()
    plugins.mkdir()
    (real / PLUGIN).write_bytes(shim or shims.build("static").read_bytes())
    # The clean-up that conmon starts has not the environment that Podman was called with.
    (plugins / PLUGIN).write_text(f'#!/bin/sh\nFABRICMGR_SOCKET={here.node.run_dir}/agent.sock exec {real}/{PLUGIN} "$@"\n')
    for each in (real, plugins):
        (each / PLUGIN).chmod(0o755)
    plugin = {"type": PLUGIN, "capabilities": {"ips": True, "mac": True}}
    listed = {"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "podnet", "plugins": [plugin]}
    with podman(here.node.ns, plugins, "podnet", json.dumps(listed)) as made:
        yield made


def holding(here: Site, container: str) -> list[str]:
    """Addresses that the manager knows a container to hold, IPv4 first."""
    found = [each for each in here.manager.allocations() if each["container"] == container]
    return sorted((address["address"] for each in found for address in each["addresses"]), key=lambda text: ":" in text)


def nothing_is_left(here: Site) -> None:
    wait_for("no link of a pod is left", lambda: not here.node.links())
    wait_for("the journal has no attachment", lambda: not here.node.state().attachments)
    wait_for("the manager holds nothing", lambda: not here.manager.allocations(), 20)


def test_a_container_reaches_its_gateway_and_goes_without_a_trace(here: Site, tmp_path: Path) -> None:
    with engine(here, tmp_path) as runtime:
        container = runtime.run("plain")
        assert container.returncode == 0, container.stderr

        given = wait_for("the manager knows", lambda: holding(here, container.stdout.strip()))
        assert len(given) == 2
        assert all(here.node.ns.ping(address) for address in given)
        assert given[0] in runtime.said("exec", "plain", "ip", "address", "show", "eth0")
        runtime.said("exec", "plain", "ping", "-c1", "-W2", "169.254.1.1")
        runtime.said("rm", "--force", "--time", "0", "plain")
    nothing_is_left(here)


def test_a_restart_keeps_the_id_and_gets_another_namespace(here: Site, tmp_path: Path) -> None:
    with engine(here, tmp_path) as runtime:
        container = runtime.run("again").stdout.strip()
        before = wait_for("the manager knows", lambda: holding(here, container))

        runtime.said("restart", "--time", "0", "again")

        after = wait_for("it has another address", lambda: found if (found := holding(here, container)) and found != before else None)
        assert here.node.ns.ping(after[0])
        assert not here.node.ns.ping(before[0])
        runtime.said("rm", "--force", "--time", "0", "again")
    nothing_is_left(here)


def test_addresses_and_mac_asked_for_are_given_or_refused_with_the_reason(here: Site, tmp_path: Path) -> None:
    with engine(here, tmp_path) as runtime:
        one = runtime.run("one", "--ip", "10.77.9.1", "--mac-address", "02:11:22:33:44:55")
        both = runtime.run("both", "--ip", "10.77.9.2", "--ip6", "2001:db8:77::92")
        outside = runtime.run("outside", "--ip", "192.0.2.9")
        taken = runtime.run("taken", "--ip", "10.77.9.1")

        assert one.returncode == 0, one.stderr
        assert both.returncode == 0, both.stderr
        assert "02:11:22:33:44:55" in runtime.said("exec", "one", "ip", "link", "show", "eth0")
        assert "10.77.9.1/32" in runtime.said("exec", "one", "ip", "address", "show", "eth0")
        shown = runtime.said("exec", "both", "ip", "address", "show", "eth0")
        assert "10.77.9.2/32" in shown
        assert "2001:db8:77::92/128" in shown
        assert "192.0.2.9" in outside.stderr
        assert outside.returncode != 0
        assert taken.returncode != 0
        assert "10.77.9.1" in taken.stderr
    nothing_is_left(here)


def test_a_container_goes_while_the_agent_is_away(here: Site, tmp_path: Path) -> None:
    with engine(here, tmp_path) as runtime:
        assert runtime.run("left").returncode == 0
        here.node.settled()
        here.node.agent.kill()

        refused = runtime.run("too-early")
        gone = runtime.call("rm", "--force", "--time", "0", "left")

        here.node.start_agent()
        assert refused.returncode != 0
        assert "agent" in refused.stderr
        assert gone.returncode == 0, gone.stderr
        nothing_is_left(here)
        here.node.ready()


def test_a_plugin_whose_version_fails_makes_the_network_vanish(here: Site, tmp_path: Path) -> None:
    """Podman asks VERSION before every call: so ours answers it without an agent, whatever else is wrong."""
    with engine(here, tmp_path, b"#!/bin/sh\necho broken >&2\nexit 1\n") as broken:
        failed = broken.run("nowhere", "--network", "podnet")
    here.node.agent.kill()
    (tmp_path / "second").mkdir()
    try:
        with engine(here, tmp_path / "second") as runtime:
            inspected = runtime.call("network", "inspect", "podnet")
    finally:
        here.node.start_agent()

    assert failed.returncode != 0
    assert "podnet" in failed.stderr
    assert inspected.returncode == 0, inspected.stderr
    nothing_is_left(here)
    here.node.ready()
