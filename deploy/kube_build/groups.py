"""What the test cluster is built from: groups of Go programs, each with the versions in its go.mod and their sums in its go.sum.

A built group lies outside the checkout, in a folder named by the digest of all that its programs depend on: another version is another
folder, and two checkouts with the same versions share one.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TAGS = "grpcnotrace"  # lets the linker leave out what nothing calls
COMPLETE = ".complete"
HOW = "`make cluster-build` builds them from Go modules, once, in about 20 minutes"


@dataclass(frozen=True)
class Group:
    """module: what the group is the version of. programs: every one it builds, by the file name it gets.

    stamps: variables of the program that the linker sets to the version, without the module's own -ldflags a server says v0.0.0-master.
    """

    name: str
    module: str
    programs: tuple[str, ...]
    stamps: tuple[str, ...] = ()
    tags: str = TAGS

    @property
    def sources(self) -> Path:
        return HERE / self.name

    @property
    def folder(self) -> Path:
        """Where it is built, or will be."""
        return root() / f"{self.name}-{self.key}"

    @property
    def key(self) -> str:
        digest = hashlib.sha256()
        for file in ("go.mod", "go.sum"):
            digest.update((self.sources / file).read_bytes())
        digest.update(repr((self.programs, self.stamps, self.tags)).encode())
        return digest.hexdigest()[:12]

    @property
    def built(self) -> bool:
        return (self.folder / COMPLETE).exists()

    def linker(self, version: str) -> str:
        """-ldflags: no symbols, and the version where the program looks for it. version: as in `v1.2.3`."""
        values = {"Version": version, "Major": version[1:].split(".", maxsplit=1)[0], "Minor": version.split(".")[1], "State": "clean"}
        set_to = [f"-X {name}={values[kind]}" for name, _, kind in (stamp.partition(":") for stamp in self.stamps)]
        return " ".join(["-s -w", *set_to])


def kubernetes_stamps() -> tuple[str, ...]:
    fields = {"gitVersion": "Version", "gitMajor": "Major", "gitMinor": "Minor", "gitTreeState": "State"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple(f"{package}.{field}:{kind}" for package in packages for field, kind in fields.items())


PLUGINS = (
    *("bridge", "host-device", "ipvlan", "loopback", "macvlan", "ptp", "vlan"),
    *("dhcp", "host-local", "static"),
    *("bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"),
)
K8S = Group(
    "k8s",
    "k8s.io/kubernetes",
    ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"),
    kubernetes_stamps(),
)
ETCD = Group("etcd", "go.etcd.io/etcd/server/v3", ("etcd",))
CONTAINERD = Group(
    "containerd",
    "github.com/containerd/containerd/v2",
    ("containerd", "containerd-shim-runc-v2", "ctr"),
    ("github.com/containerd/containerd/v2/version.Version:Version",),
    f"{TAGS},no_btrfs,no_zfs,no_devmapper",
)
CNI = Group(
    "cni",
    "github.com/containernetworking/plugins",
    (*PLUGINS, "cnitool"),
    ("github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion:Version",),
)
MULTUS = Group(
    "multus",
    "gopkg.in/k8snetworkplumbingwg/multus-cni.v4",
    ("multus",),
    ("gopkg.in/k8snetworkplumbingwg/multus-cni.v4/pkg/multus.version:Version",),
)
GROUPS = (K8S, ETCD, CONTAINERD, CNI, MULTUS)


def root(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of all groups: FABRICMGR_TEST_KUBE, else below the user's cache."""
    if chosen := environment.get("FABRICMGR_TEST_KUBE"):
        return Path(chosen).absolute()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fabricmgr" / "kube"


def missing() -> str:
    """What is not built, and how to get it; empty when everything is there."""
    lacking = [group.name for group in GROUPS if not group.built]
    return f"Kubernetes is not built ({', '.join(lacking)}; looked in {root()}): {HOW}" if lacking else ""


def program(name: str) -> Path:
    """A built program. KeyError for a name that no group has."""
    return {each: group.folder / each for group in GROUPS for each in group.programs}[name]
