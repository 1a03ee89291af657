from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fabricmgr.domain.errors import KubeconfigRefused
from fabricmgr.kube import kubeconfig

PEM = b64encode(b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n").decode()


def document(user: dict[str, Any] | None = None, **cluster: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", "certificate-authority-data": PEM, **cluster}}],
        "users": [{"name": "u", "user": {"token": "secret"} if user is None else user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def text(*given: Any, **more: Any) -> str:
    return msgspec.json.encode(document(*given, **more)).decode()


def test_a_token_and_an_authority_are_taken() -> None:
    access = kubeconfig.parse(text())

    assert access.server == "https://10.0.0.1:6443"
    assert access.token is not None
    assert access.token() == "secret"
    assert "BEGIN CERTIFICATE" in access.authority
    assert "secret" not in repr(access)


def test_a_certificate_and_its_key_are_taken() -> None:
    access = kubeconfig.parse(text({"client-certificate-data": PEM, "client-key-data": PEM}))

    assert access.token is None
    assert "BEGIN" in access.certificate
    assert "BEGIN" in access.key


def test_yaml_is_read_and_unknown_fields_are_passed_over() -> None:
    given = f"""
apiVersion: v1
preferences: {{colors: true}}
clusters:
- name: c
  cluster: {{server: "https://api.example:6443/", certificate-authority-data: {PEM}, new-field: 1, tls-server-name: kubernetes}}
users: [{{name: u, user: {{token: abc}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u, namespace: prod}}}}]
current-context: x
"""
    access = kubeconfig.parse(given)

    assert (access.server, access.name, access.namespace) == ("https://api.example:6443", "kubernetes", "prod")


@pytest.mark.parametrize(
    ("user", "field"),
    [
        ({"exec": {"command": "aws"}}, "user.exec"),
        ({"token": "t", "exec": {"command": "aws"}}, "user.exec"),
        ({"auth-provider": {"name": "gcp"}}, "user.auth-provider"),
        ({"tokenFile": "/etc/passwd"}, "user.tokenFile"),
        ({"client-certificate": "/c", "client-key-data": PEM}, "user.client-certificate"),
        ({"client-certificate-data": PEM, "client-key": "/k"}, "user.client-key"),
        ({"username": "a", "password": "b"}, "user.username"),
        ({"token": "t", "as": "admin"}, "user.as"),
        ({"client-certificate-data": PEM}, "user.client-key-data"),
        ({"client-certificate-data": "%%", "client-key-data": PEM}, "user.client-certificate-data"),
        ({"client-certificate-data": b64encode(b"no pem").decode(), "client-key-data": PEM}, "user.client-certificate-data"),
        ({}, "user"),
        ({"token": "two words"}, "user.token"),
        ({"token": 7}, "user.token"),
    ],
)
def test_credentials_that_are_not_inline_and_whole_are_refused_by_name(user: dict[str, Any], field: str) -> None:
    with pytest.raises(KubeconfigRefused) as refused:
        kubeconfig.parse(text(user))

    assert refused.value.field == field


@pytest.mark.parametrize(
    ("cluster", "field"),
    [
        ({"certificate-authority": "/ca.crt"}, "cluster.certificate-authority"),
        ({"insecure-skip-tls-verify": True}, "cluster.insecure-skip-tls-verify"),
        ({"proxy-url": "http://proxy"}, "cluster.proxy-url"),
        ({"server": "http://10.0.0.1"}, "cluster.server"),
        ({"server": "https://user@10.0.0.1"}, "cluster.server"),
        ({"server": "https://10.0.0.1:99999"}, "cluster.server"),
        ({"server": ""}, "cluster.server"),
    ],
)
def test_a_server_that_cannot_be_verified_or_reached_directly_is_refused_by_name(cluster: dict[str, Any], field: str) -> None:
    with pytest.raises(KubeconfigRefused) as refused:
        kubeconfig.parse(text(**cluster))

    assert refused.value.field == field


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda found: found.pop(name) and None


@pytest.mark.parametrize("name", ["clusters", "users", "contexts", "current-context"])
def test_a_missing_part_is_named(name: str) -> None:
    found = document()
    _without(name)(found)

    with pytest.raises(KubeconfigRefused) as refused:
        kubeconfig.parse(msgspec.json.encode(found).decode())

    assert refused.value.field == name


@pytest.mark.parametrize("given", ["", "[]", "{", "a: [", "\0", "just words", "[" * 5000])
def test_what_is_no_kubeconfig_is_refused(given: str) -> None:
    with pytest.raises(KubeconfigRefused):
        kubeconfig.parse(given)


def test_aliases_that_would_grow_without_end_are_refused() -> None:
    with pytest.raises(KubeconfigRefused, match="aliases"):
        kubeconfig.parse("a: &a [1, 1]\nb: [*a, *a]\n")


def test_a_refusal_shows_no_secret() -> None:
    with pytest.raises(KubeconfigRefused) as refused:
        kubeconfig.parse('users: [{name: u, user: {token: "hidden\n}')

    assert "hidden" not in str(refused.value)


def test_a_service_accounts_token_is_read_again_each_time(tmp_path: Path) -> None:
    for name, content in {"ca.crt": "ca", "namespace": "fabricmgr\n", "token": "first\n"}.items():
        (tmp_path / name).write_text(content)
    access = kubeconfig.in_cluster({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}, tmp_path)
    assert access.token is not None
    assert access.token() == "first"

    (tmp_path / "token").write_text("second")

    assert access.token() == "second"
    assert (access.server, access.namespace) == ("https://[fd00::1]:443", "fabricmgr")


@pytest.mark.parametrize("environ", [{}, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}])
def test_outside_of_a_pod_there_is_no_service_account(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(KubeconfigRefused):
        kubeconfig.in_cluster(environ, tmp_path)
