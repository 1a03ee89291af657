"""An API server for tests of who asks one: HTTPS on loopback, a token, and the objects that a test puts there."""

import base64
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fabricmgr.services.certificates import pem
from fabricmgr.services.server_certificate import key_text
from tests.support.issued import named

TOKEN = "sesame-not-to-be-shown"


@dataclass
class KubeApi:
    """answers: by path. refused: paths answered with 403."""

    url: str
    authority: str
    answers: dict[str, Any] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    asked: list[str] = field(default_factory=list)

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

    def answer(self, path: str, authorization: str) -> tuple[int, Any]:
        self.asked.append(path)
        if authorization.removeprefix("Bearer ") not in self.tokens:
            return 401, status(401, "Unauthorized")
        if path in self.refused:
            return 403, status(403, "Forbidden")
        found = self.answers.get(path)
        return (404, status(404, "NotFound")) if found is None else (200, found)


def status(code: int, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": f"{reason} here"}


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "7"}, "items": list(items)}


@contextmanager
def kube_api(minor: str = "37") -> Iterator[KubeApi]:
    """A server of Kubernetes 1.<minor> with two nodes and a range of Services."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(named("kube")).issuer_name(named("kube")).public_key(key.public_key()).serial_number(9)
    builder = (
        builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1)).add_extension(names, critical=False)
    )
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    certificate = pem(builder.sign(key, hashes.SHA256()))
    with tempfile.TemporaryDirectory() as folder, _Server(("127.0.0.1", 0), _Calls) as server:
        both = Path(folder) / "both.pem"
        both.write_text(certificate + key_text(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        api = server.api = KubeApi(f"https://127.0.0.1:{server.server_address[1]}", certificate)
        api.answers["/version"] = {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.2"}
        nodes = [{"metadata": {"name": f"w{n}", "uid": f"n-{n}"}, "spec": {"podCIDRs": [f"10.40.{n - 1}.0/24"]}} for n in (1, 2)]
        api.answers["/api/v1/nodes"] = listed(*nodes)
        cidr = {"metadata": {"name": "kubernetes", "uid": "c-1"}, "spec": {"cidrs": ["10.96.0.0/16"]}}
        api.answers["/apis/networking.k8s.io/v1/servicecidrs"] = listed(cidr)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    api: KubeApi


class _Calls(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        code, found = self.server.api.answer(self.path.partition("?")[0], self.headers.get("Authorization", ""))
        content = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: a test asserts what was asked."""
