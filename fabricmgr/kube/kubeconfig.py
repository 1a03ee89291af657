"""How to reach a cluster's API server and as whom: a kubeconfig with inline credentials, or a pod's service account.

A kubeconfig arrives over the API, so nothing that it names is run or read: exec, auth-provider, tokenFile and paths of files are refused by
name (their meaning: client-go credential plugins and Config v1 in the Kubernetes reference).
"""

import binascii
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from fabricmgr.domain.errors import ApiUnreachable, KubeconfigRefused

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LONGEST = 1 << 17  # letters of a kubeconfig: reading YAML takes a second for them
DEEPEST = 20  # brackets within brackets; a kubeconfig needs six

_NOT_HERE = {
    "exec": "it would run a program in the manager",
    "auth-provider": "it would run a plugin in the manager",
    "tokenFile": "it names a file; put the token itself here, as token",
    "client-certificate": "it names a file; put the certificate itself here, as client-certificate-data",
    "client-key": "it names a file; put the key itself here, as client-key-data",
    "certificate-authority": "it names a file; put the certificate itself here, as certificate-authority-data",
    "username": "API servers take no passwords since 1.19; use a token or a client certificate",
    "password": "API servers take no passwords since 1.19; use a token or a client certificate",
    "insecure-skip-tls-verify": "a server is always verified; give certificate-authority-data",
    "proxy-url": "no proxy is used",
    "as": "nobody is impersonated; use the credentials of the account itself",
    "as-uid": "nobody is impersonated; use the credentials of the account itself",
    "as-groups": "nobody is impersonated; use the credentials of the account itself",
    "as-user-extra": "nobody is impersonated; use the credentials of the account itself",
}


@dataclass(frozen=True)
class Access:
    """server: URL without a path's end. authority: PEM, empty for the system's CAs. token: asked before each request, so that a changed one
    counts at once. certificate, key: PEM or empty. name: whom the server's certificate must name, empty for the URL's host."""

    server: str
    authority: str = ""
    token: Callable[[], str] | None = field(default=None, repr=False)
    certificate: str = ""
    key: str = field(default="", repr=False)
    namespace: str = "default"
    name: str = ""


def parse(text: str) -> Access:
    """The current context of a kubeconfig, YAML or JSON. Raises KubeconfigRefused."""
    document = _load(text)
    context = _named(document, "contexts", "context", _text(document, "current-context"))
    cluster = _named(document, "clusters", "cluster", _text(context, "cluster", "context.cluster"))
    user = _named(document, "users", "user", _text(context, "user", "context.user"))
    _refuse("cluster", cluster)
    _refuse("user", user)
    certificate, key = _pem(user, "user", "client-certificate-data"), _pem(user, "user", "client-key-data")
    token = user.get("token") or ""
    if not isinstance(token, str):
        raise KubeconfigRefused("user.token", "it is no text")
    _credentials(token, certificate, key)
    return Access(
        server=_server(cluster),
        authority=_pem(cluster, "cluster", "certificate-authority-data"),
        token=(lambda: token) if token else None,
        certificate=certificate,
        key=key,
        namespace=str(context.get("namespace") or "default"),
        name=str(cluster.get("tls-server-name") or ""),
    )


def in_cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """The service account of the pod we run in. Its token is read again for each request: kubelet replaces the file before it expires.

    Raises KubeconfigRefused where we run in no pod, or in one without a service account."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise KubeconfigRefused("in-cluster", "KUBERNETES_SERVICE_HOST is not set: this manager does not run in a pod")
    try:
        authority, namespace = (folder / "ca.crt").read_text(), (folder / "namespace").read_text().strip()
        (folder / "token").read_text()
    except OSError as error:
        raise KubeconfigRefused("in-cluster", f"the service account cannot be read: {error}") from None
    server = f"https://{_bracketed(host)}:{port}"

    def token() -> str:
        try:
            return (folder / "token").read_text().strip()
        except OSError as error:
            raise ApiUnreachable(server, f"the service account's token cannot be read: {error}") from None

    return Access(server=server, authority=authority, token=token, namespace=namespace)


def _load(text: str) -> Mapping[str, Any]:
    if len(text) > LONGEST:
        raise KubeconfigRefused("kubeconfig", f"it is longer than {LONGEST} characters")
    try:
        _harmless(text)
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise KubeconfigRefused("kubeconfig", f"it is no YAML or JSON: {_line(error)}") from None
    if not isinstance(document, dict):
        raise KubeconfigRefused("kubeconfig", "it is no mapping with clusters, users and contexts")
    return document


def _harmless(text: str) -> None:
    """Aliases let a few lines stand for gigabytes, and deep nesting takes a parser's time with its square."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise KubeconfigRefused("kubeconfig", "it has YAML aliases, which are not taken here")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise KubeconfigRefused("kubeconfig", f"it is nested deeper than {DEEPEST} levels")


def _line(error: Exception) -> str:
    """Where it went wrong, without the text there: it may be a secret."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}" if mark else type(error).__name__


def _text(document: Mapping[str, Any], name: str, shown: str = "") -> str:
    found = document.get(name)
    if not isinstance(found, str) or not found:
        raise KubeconfigRefused(shown or name, "it is missing")
    return found


def _named(document: Mapping[str, Any], section: str, part: str, name: str) -> Mapping[str, Any]:
    entries = document.get(section)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(part)
            if isinstance(found, dict):
                return found
    raise KubeconfigRefused(section, f"there is no entry {name!r} with a {part}")


def _refuse(part: str, found: Mapping[str, Any]) -> None:
    for name, reason in _NOT_HERE.items():
        if found.get(name):
            raise KubeconfigRefused(f"{part}.{name}", reason)


def _pem(found: Mapping[str, Any], part: str, name: str) -> str:
    encoded = found.get(name) or ""
    try:
        text = b64decode(str(encoded), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise KubeconfigRefused(f"{part}.{name}", "it is no base64 of a PEM text") from None
    if encoded and "-----BEGIN " not in text:
        raise KubeconfigRefused(f"{part}.{name}", "it is no base64 of a PEM text")
    return text


def _credentials(token: str, certificate: str, key: str) -> None:
    if bool(certificate) != bool(key):
        missing = "client-key-data" if certificate else "client-certificate-data"
        raise KubeconfigRefused(f"user.{missing}", "it is missing: certificate and key belong together")
    if not token and not certificate:
        raise KubeconfigRefused("user", "it holds no inline credentials: token, or client-certificate-data and client-key-data")
    if not token.isascii() or any(letter.isspace() for letter in token):
        raise KubeconfigRefused("user.token", "it has characters that no token has")


def _server(cluster: Mapping[str, Any]) -> str:
    text = _text(cluster, "server", "cluster.server").rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise KubeconfigRefused("cluster.server", "it is no URL") from None
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment or port == 0:
        raise KubeconfigRefused("cluster.server", "it must be https://HOST[:PORT]")
    return text


def _bracketed(host: str) -> str:
    try:
        return f"[{IPv6Address(host)}]"
    except ValueError:
        return host
