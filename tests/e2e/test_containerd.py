"""A real containerd calls our plugin over CRI: a real agent behind the shim, a real manager behind the agent."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fabricmgr.agent.plugin import PLUGIN
from tests.support import shims
from tests.support.containerd import Containerd, containerd, mounts
from tests.support.containerd import shims as sandboxes_processes
from tests.support.cri import Cri, CriError
from tests.support.node_agent import wait_for
from tests.support.site import Site, SiteNode, site

pytestmark = pytest.mark.containerd

LOOPBACK = Path("/usr/lib/cni/loopback")


@pytest.fixture(scope="module")
def here() -> Iterator[Site]:
    with site() as made:
        made.manager.make_network("podnet", "10.77.0.0/16", "2001:db8:77::/112", pool={"cooldown_seconds": 1})
        made.start("podnet")
        yield made


@contextmanager
def runtime_of(here: Site, folder: Path, kind: str = "static", **keys: Any) -> Iterator[tuple[Containerd, Cri]]:
    """A containerd on the node that has our plugin, by the list that the agent itself would write."""
    plugins = folder / "bin"
    plugins.mkdir()
    (plugins / PLUGIN).write_bytes(shims.build(kind).read_bytes())
    (plugins / PLUGIN).chmod(0o755)
    # containerd 1.6 calls it for every sandbox.
    (plugins / "loopback").symlink_to(LOOPBACK)
    plugin = {"type": PLUGIN, "capabilities": {"ips": True, "mac": True}, **keys}
    listed = {"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "podnet", "plugins": [plugin]}
    environment = {"FABRICMGR_SOCKET": str(here.node.run_dir / "agent.sock")}
    with containerd(here.node.ns, plugins, {"05-podnet.conflist": json.dumps(listed)}, environment) as runtime, runtime.cri() as cri:
        runtime.wait_ready()
        yield runtime, cri


def nothing_is_left(here: Site) -> None:
    """Not in the kernel, not in the journal, not in the database."""
    wait_for("no link of a pod is left", lambda: not here.node.links())
    wait_for("the journal has no attachment", lambda: not here.node.state().attachments)
    wait_for("the manager holds nothing for a pod", lambda: not here.manager.allocations(), 20)


@pytest.mark.parametrize("kind", shims.KINDS)
def test_eight_sandboxes_at_once_get_addresses_answer_pings_and_leave_nothing(here: Site, tmp_path: Path, kind: str) -> None:
    with runtime_of(here, tmp_path, kind) as (runtime, cri):
        with ThreadPoolExecutor(8) as pool:
            pods = list(pool.map(cri.run, [f"pod-{number}" for number in range(8)]))
            given = [cri.addresses(pod) for pod in pods]
            pings = list(pool.map(here.node.ns.ping, [address for each in given for address in each]))
            between = list(pool.map(lambda number: ping_from(here.node, pods[number], given[number - 1][0]), range(8)))
            here.node.settled()
            held = here.manager.allocations()
            list(pool.map(cri.stop, pods))
            list(pool.map(cri.remove, pods))

        assert len({address for each in given for address in each}) == 16
        assert all(len(each) == 2 for each in given)
        assert all(pings)
        assert all(between)
        assert {each["container"] for each in held} == set(pods)
        assert {each["pod"] for each in held} == {f"pod-{number}" for number in range(8)}
        assert {(each["namespace"], each["node"], each["ifname"]) for each in held} == {("default", "n1", "eth0")}
        assert cri.sandboxes() == []
        nothing_is_left(here)
        folder = runtime.folder
    assert not folder.exists()
    assert not mounts(folder)
    assert not sandboxes_processes(runtime)


def ping_from(node: SiteNode, container: str, address: str) -> bool:
    """From inside a sandbox to another one."""
    sandbox = node.state().attachments["podnet", container, "eth0"].place.sandbox
    words = ["nsenter", f"--net={sandbox}", "--", "ping", "-n", "-q", "-c", "1", "-W", "2", address]
    return node.ns.run(*words, check=False).returncode == 0


def test_who_had_an_address_is_known_after_its_sandbox_is_gone(here: Site, tmp_path: Path) -> None:
    with runtime_of(here, tmp_path) as (_, cri):
        pod = cri.run("remembered", uid="7c9e6679-7425-40de-944b-e07fc1f90ae7")
        address = cri.addresses(pod)[0]
        cri.stop(pod)
        cri.remove(pod)
    nothing_is_left(here)

    last = here.manager.holders(address)[0]

    assert pod in last["owner"]
    assert (last["node"], last["until_at"] is not None) == ("n1", True)


def test_sandboxes_outlive_a_killed_containerd_and_its_successor_ends_them(here: Site, tmp_path: Path) -> None:
    with runtime_of(here, tmp_path) as (runtime, cri):
        pod = cri.run("survivor")
        address = cri.addresses(pod)[0]

        runtime.kill()
        alive = here.node.ns.ping(address)
        runtime.start()
        with runtime.cri() as successor:
            successor.stop(pod)
            successor.remove(pod)

        assert alive
        assert not here.node.ns.ping(address)
    nothing_is_left(here)


def test_stop_and_remove_may_come_again(here: Site, tmp_path: Path) -> None:
    with runtime_of(here, tmp_path) as (_, cri):
        pod = cri.run("twice")

        for _ in range(2):
            cri.stop(pod)
        for _ in range(2):
            cri.remove(pod)

        assert cri.sandboxes() == []
    nothing_is_left(here)


def test_a_pod_goes_while_the_agent_is_away_and_its_address_comes_back_with_it(here: Site, tmp_path: Path) -> None:
    with runtime_of(here, tmp_path) as (_, cri):
        pod = cri.run("left-alone")
        here.node.settled()
        here.node.agent.kill()

        cri.stop(pod)
        cri.remove(pod)
        with pytest.raises(CriError, match="agent"):
            cri.run("too-early")

        assert {each["container"] for each in here.manager.allocations()} == {pod}
        here.node.start_agent()
        nothing_is_left(here)
        here.node.ready()
        later = cri.run("later")
        assert here.node.ns.ping(cri.addresses(later)[0])
        cri.stop(later)
        cri.remove(later)
    nothing_is_left(here)


def test_a_pod_that_gets_no_network_shows_its_user_why(here: Site, tmp_path: Path) -> None:
    """containerd shows message and details and drops the code."""
    with runtime_of(here, tmp_path, vlan=7) as (_, cri):
        with pytest.raises(CriError, match="vlan"):
            cri.run("refused")

        assert cri.sandboxes() == []
    nothing_is_left(here)


def test_pods_come_and_go_while_the_manager_is_away(here: Site, tmp_path: Path) -> None:
    with runtime_of(here, tmp_path) as (_, cri):
        here.manager.close()
        with ThreadPoolExecutor(4) as pool:
            pods = list(pool.map(cri.run, [f"alone-{number}" for number in range(4)]))
        addresses = [cri.addresses(pod)[0] for pod in pods]
        for pod in pods[:2]:
            cri.stop(pod)
            cri.remove(pod)

        here.manager.start()

        wait_for("the manager knows who lives", lambda: {each["container"] for each in here.manager.allocations()} == set(pods[2:]), 30)
        assert all(pods[number] in here.manager.holders(addresses[number])[0]["owner"] for number in range(4))
        for pod in pods[2:]:
            cri.stop(pod)
            cri.remove(pod)
    nothing_is_left(here)
