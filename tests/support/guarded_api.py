"""The tests' API server as a manager of ours reaches it: over TLS, with a token, in a thread of its own."""

import asyncio
import base64
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from anyio.from_thread import start_blocking_portal
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fabricmgr.services.certificates import pem
from fabricmgr.services.server_certificate import key_text
from tests.support.issued import named
from tests.support.kube_api import Answer, Asked, KubeApi, failure, listed, serving

TOKEN = "sesame-not-to-be-shown"


@dataclass
class GuardedApi(KubeApi):
    """refused: paths answered with 403. tokens: those it knows. gate: shut, answers wait."""

    authority: str = ""
    refused: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def paths(self) -> list[str]:
        """What it was asked, in turn."""
        return [each.path for each in self.asked]

    def holds(self, path: str, found: Mapping[str, Any]) -> None:
        """An object."""
        self.says(f"GET {path}", Answer(body=found))

    def kubeconfig(self, token: str = TOKEN, **user: object) -> str:
        authority = base64.b64encode(self.authority.encode()).decode()
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "lab",
                "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "fabricmgr"}}],
                "clusters": [{"name": "lab", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
                "users": [{"name": "fabricmgr", "user": user or {"token": token}}],
            }
        )

    async def answer(self, asked: Asked) -> Answer:
        await self.gate.wait()
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return failure(401, "Unauthorized", "Unauthorized here")
        if asked.path in self.refused:
            return failure(403, "Forbidden", "Forbidden here")
        return await super().answer(asked)


@asynccontextmanager
async def guarded_api(minor: str = "37") -> AsyncIterator[GuardedApi]:
    """A server of Kubernetes 1.<minor> with two nodes and a range of Services."""
    authority, context = own_certificate()
    made = GuardedApi(authority=authority)
    made.holds("/version", {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.2"})
    nodes = [{"metadata": {"name": f"w{n}", "uid": f"n-{n}"}, "spec": {"podCIDRs": [f"10.40.{n - 1}.0/24"]}} for n in (1, 2)]
    made.says("GET /api/v1/nodes", listed(*nodes))
    cidr = {"metadata": {"name": "kubernetes", "uid": "c-1"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
    made.says("GET /apis/networking.k8s.io/v1/servicecidrs", listed(cidr))
    async with serving(made, context):
        yield made


@contextmanager
def guarded_api_aside(minor: str = "37") -> Iterator[GuardedApi]:
    """The same for a test that is not async."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(guarded_api(minor)) as made:
        yield made


def own_certificate() -> tuple[str, ssl.SSLContext]:
    """For 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(named("kube")).issuer_name(named("kube")).public_key(key.public_key()).serial_number(9)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(names, critical=False).add_extension(x509.BasicConstraints(True, None), critical=True)
    certificate = pem(builder.sign(key, hashes.SHA256()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w") as both:
        both.write(certificate + key_text(key))
        both.flush()
        context.load_cert_chain(Path(both.name))
    return certificate, context
