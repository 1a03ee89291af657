"""A test cluster's agents, and its manager's access, installed as an administrator does it: from our manifests, with an image of ours."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.kube.options import NETWORK
from tests.support.node_agent import ROOT

if TYPE_CHECKING:
    from tests.support.kube.cluster import Cluster

MANIFESTS = ROOT / "deploy" / "kubernetes"
SPACE = "fabricmgr"
HOW = "`make image` builds it, in three minutes the first time and in half a minute after a change"
NAMED: dict[str, Any] = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "images": [{"name": "fabricmgr", "newName": "localhost/fabricmgr", "newTag": "dev"}],
}


def archive() -> Path:
    """Where `make image` puts our image for the source as it is now."""
    words = [str(ROOT / "deploy/setup/image.sh"), "--archive"]
    return Path(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip())


def missing() -> str:
    """What is to be built for it, and how; empty when it is there."""
    found = archive()
    return "" if found.exists() else f"there is no image of this source ({found}): {HOW}"


def part(cluster: "Cluster", name: str, **more: Any) -> Path:
    """A folder of the manifests as a site takes it, with the image's name put in. more: of its kustomization."""
    folder = cluster.folder / f"site-{name}"
    shutil.copytree(MANIFESTS, folder / "kubernetes")
    document = {**NAMED, "resources": [f"kubernetes/{name}"], **more}
    (folder / "kustomization.yaml").write_text(json.dumps(document))
    return folder


def agents(cluster: "Cluster") -> Path:
    """The agents, with what they must know of their manager."""
    about = {"url": cluster.manager.url, "cluster": "default", "network": NETWORK}
    told = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fabricmgr", "namespace": SPACE}, "data": about}
    folder = part(
        cluster,
        "agent",
        namespace=SPACE,
        configMapGenerator=[{"name": "fabricmgr-authority", "files": ["ca.pem"]}],
        generatorOptions={"disableNameSuffixHash": True},
        patches=[{"patch": json.dumps(told)}],
    )
    (folder / "ca.pem").write_bytes((cluster.manager.data_dir / "ca.pem").read_bytes())
    return folder


def load(cluster: "Cluster") -> None:
    """The image, into the runtime of every node."""
    for node in cluster.nodes:
        done = node.ctr("-n", "k8s.io", "images", "import", str(archive()))
        assert done.returncode == 0, done.stderr


def access(cluster: "Cluster") -> str:
    """A kubeconfig of the manager's service account, which has the rights that our roles give it and no others."""
    token = cluster.kubectl("create", "token", "fabricmgr-manager", "-n", SPACE, "--duration=24h").strip()
    document = json.loads(cluster.kubeconfig.read_text())
    document["users"] = [{"name": user["name"], "user": {"token": token}} for user in document["users"]]
    return json.dumps(document)


def grant(cluster: "Cluster") -> None:
    """Roles for the manager, and its access by them."""
    for folder in ("namespace", "rbac"):
        cluster.kubectl("apply", "-k", str(MANIFESTS / folder))
    cluster.manager.ask("PATCH", "/v1/clusters/default", {"kubeconfig": access(cluster)})


def install(cluster: "Cluster", say: Callable[[str], None]) -> None:
    """All of it, until the agents are ready."""
    load(cluster)
    say("image: in the nodes' runtimes")
    grant(cluster)
    cluster.kubectl("apply", "-k", str(agents(cluster)))
    cluster.kubectl("rollout", "status", "daemonset/fabricmgr-agent", "-n", SPACE, "--timeout=180s")
    say("agents: ready")
