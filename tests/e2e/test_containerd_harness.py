"""The containerd that the tests drive works with the reference plugins, so that a failure with ours is ours."""

from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from json import dumps
from pathlib import Path

import pytest

from tests.support.containerd import containerd, mounts, shims
from tests.support.netns import namespace

pytestmark = pytest.mark.containerd

REFERENCE = Path("/usr/lib/cni")
CONFLIST = {
    "cniVersion": "1.0.0",
    "name": "reference",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "ref0",
            "isGateway": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/24"}]], "dataDir": "DIR"},
        }
    ],
}


def test_eight_sandboxes_come_up_at_once_answer_pings_and_leave_nothing(tmp_path: Path) -> None:
    conflist = dumps(CONFLIST).replace("DIR", str(tmp_path / "leases"))
    with namespace("node") as node, containerd(node, REFERENCE, {"10-reference.conflist": conflist}) as runtime, runtime.cri() as cri:
        runtime.wait_ready()

        with ThreadPoolExecutor(8) as pool:
            pods = list(pool.map(cri.run, [f"pod-{number}" for number in range(8)]))
            addresses = [cri.addresses(pod)[0] for pod in pods]
            pings = list(pool.map(node.ping, addresses))
            list(pool.map(cri.stop, pods))
            list(pool.map(cri.remove, pods))

        assert len(set(addresses)) == 8
        assert all(ip_address(address) in ip_network("10.77.0.0/24") for address in addresses)
        assert all(pings)
        assert cri.sandboxes() == []
        assert "veth" not in node.run("ip", "-o", "link").stdout
        folder = runtime.folder
    assert not folder.exists()
    assert not mounts(folder)
    assert not shims(runtime)


def test_sandboxes_outlive_a_killed_containerd_and_are_ended_by_its_successor(tmp_path: Path) -> None:
    conflist = dumps(CONFLIST).replace("DIR", str(tmp_path / "leases"))
    with namespace("node") as node, containerd(node, REFERENCE, {"10-reference.conflist": conflist}) as runtime, runtime.cri() as cri:
        runtime.wait_ready()
        pod = cri.run("survivor")
        address = cri.addresses(pod)[0]

        runtime.kill()
        alive = node.ping(address)
        runtime.start()
        cri.stop(pod)
        cri.remove(pod)

        assert alive
        assert not node.ping(address)
