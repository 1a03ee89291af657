"""The control plane of a test cluster: etcd, API server, controllers and scheduler in the hub's namespace."""

import base64
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.demo.processes import Program
from deploy.kube_build.groups import program
from tests.support.kube.options import HUB, SERVICES, Options
from tests.support.netns import Namespace

ETCD = "http://127.0.0.1:2379"
PEER = "http://127.0.0.1:2380"
# The names that the API server's own roles speak of, so that nothing has to be granted.
ACCOUNTS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
}

# The service account of our manifests: what it does is recorded, so that a test can hold it against what it may do.
AUDITED = "system:serviceaccount:fabricmgr:fabricmgr-manager"

# A proxy of the site's is not for addresses inside a namespace.
DIRECT = {"NO_PROXY": "*", "no_proxy": "*"}


class KubectlFailed(AssertionError):
    """kubectl's exit status was not 0; the text is what it said."""


@dataclass
class ControlPlane:
    """hub: the namespace it runs in. folder: its files. nodes: names that may join."""

    hub: Namespace
    folder: Path
    options: Options
    nodes: list[str]
    programs: dict[str, Program] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    # --- up ---

    def begin(self) -> None:
        """Start etcd and the API server, and wait for neither."""
        for each in ("pki", "etcd"):
            (self.folder / each).mkdir(mode=0o700, parents=True)
        self.write_key()
        self.write_tokens()
        self.write_audit_policy()
        self.start("etcd", *self.etcd_flags())
        self.start("kube-apiserver", *self.api_server_flags())

    def complete(self) -> None:
        """Wait for the API server; start what needs it."""
        self.programs["kube-apiserver"].wait_until(self.waits_for, 120, lambda _: None)
        for account in [*ACCOUNTS, *self.nodes]:
            self.write_kubeconfig(account)
        common = ("--leader-elect=false", "--bind-address=127.0.0.1")
        self.start("kube-controller-manager", *self.controller_flags(), *common)
        self.start("kube-scheduler", f"--kubeconfig={self.kubeconfig('scheduler')}", "--secure-port=0", *common)

    def start(self, name: str, *flags: str) -> None:
        made = Program(name, self.hub.command(str(program(name)), *flags), self.folder / f"{name}.log", DIRECT)
        self.programs[name] = made
        made.start()

    def etcd_flags(self) -> list[str]:
        urls = [f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}", f"--listen-peer-urls={PEER}"]
        member = [f"--initial-advertise-peer-urls={PEER}", f"--initial-cluster=default={PEER}"]
        # A test's data need not outlive the machine.
        return [f"--data-dir={self.folder / 'etcd'}", *urls, *member, "--unsafe-no-fsync", "--log-level=warn"]

    def api_server_flags(self) -> list[str]:
        key = self.folder / "pki" / "service-accounts.key"
        return [
            f"--etcd-servers={ETCD}",
            f"--advertise-address={HUB[self.options.families[0]]}",
            "--bind-address=::",
            f"--cert-dir={self.folder / 'pki'}",
            f"--token-auth-file={self.folder / 'pki' / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={self.options.ranges(SERVICES)}",
            # Node names are in no DNS here.
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--audit-policy-file={self.audit_policy}",
            f"--audit-log-path={self.audit}",
            *self.options.api_server,
        ]

    def controller_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig('controllers')}",
            f"--service-account-private-key-file={self.folder / 'pki' / 'service-accounts.key'}",
            f"--root-ca-file={self.authority}",
            "--use-service-account-credentials=true",
            # Which pod addresses a node has is ours to say.
            "--allocate-node-cidrs=false",
            "--secure-port=0",
            "--node-monitor-grace-period=20s",
        ]

    def waits_for(self) -> str:
        """Empty when the API server answers that it is ready."""
        if not (self.folder / "pki" / "apiserver.crt").exists():
            return "its certificate is made"
        self.write_authority()
        self.write_kubeconfig("admin")
        done = self.run_kubectl("get", "--raw", "/readyz")
        return "" if done.stdout == "ok" else "it is ready"

    # --- credentials ---

    def write_key(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        (self.folder / "pki" / "service-accounts.key").write_bytes(key.private_bytes(*form))

    def write_tokens(self) -> None:
        """A file of tokens, so that there are no client certificates to make."""
        accounts = ACCOUNTS | {node: (f"system:node:{node}", "system:nodes") for node in self.nodes}
        self.tokens = {account: token_hex(16) for account in accounts}
        lines = [f'{self.tokens[name]},{user},{name},"{groups}"' for name, (user, groups) in accounts.items()]
        (self.folder / "pki" / "tokens.csv").write_text("\n".join(lines) + "\n")

    @property
    def audit_policy(self) -> Path:
        return self.folder / "pki" / "audit.yaml"

    @property
    def audit(self) -> Path:
        """One audit.k8s.io/v1 Event a line, of requests by AUDITED."""
        return self.folder / "audit.jsonl"

    def write_audit_policy(self) -> None:
        """A watch is recorded when its answer begins: it may have no end while somebody looks."""
        rules = [{"level": "Metadata", "users": [AUDITED]}, {"level": "None"}]
        document = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
        self.audit_policy.write_text(json.dumps(document))

    @property
    def authority(self) -> Path:
        return self.folder / "pki" / "ca.crt"

    def write_authority(self) -> None:
        """The API server made a certificate and an authority, one after the other in one file; a trust bundle may hold the second alone."""
        end = "-----END CERTIFICATE-----\n"
        self.authority.write_text((self.folder / "pki" / "apiserver.crt").read_text().split(end)[1] + end)

    def kubeconfig(self, account: str = "admin") -> Path:
        """Of an administrator, a component or a node. Certificate and token are in it, as fabricmgr takes it."""
        return self.folder / f"{account}.kubeconfig"

    def write_kubeconfig(self, account: str) -> None:
        cluster = {"server": self.options.server, "certificate-authority-data": base64.b64encode(self.authority.read_bytes()).decode()}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": account, "user": {"token": self.tokens[account]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": account}}],
            "current-context": "test",
        }
        self.kubeconfig(account).write_text(json.dumps(document, indent=1))

    # --- kubectl ---

    def run_kubectl(self, *words: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        """Whatever becomes of it. given: its standard input."""
        cache = f"--cache-dir={self.folder / 'kubectl-cache'}"
        line = self.hub.command(str(program("kubectl")), f"--kubeconfig={self.kubeconfig()}", cache, *words)
        return subprocess.run(line, input=given, capture_output=True, text=True, env=os.environ | DIRECT, timeout=300, check=False)

    def kubectl(self, *words: str, given: str = "") -> str:
        """What it printed. KubectlFailed with what it complained of."""
        done = self.run_kubectl(*words, given=given)
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *words: str) -> Any:
        """`kubectl get ... -o json`, parsed."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    # --- down ---

    def stop(self) -> None:
        """At once: what they hold goes with the cluster."""
        for made in reversed(self.programs.values()):
            made.stop(patience=0.1)
