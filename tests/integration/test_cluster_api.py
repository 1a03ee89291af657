"""Clusters with an API server, by /v1 and command line: added, refused, changed, forgotten; and what people ask of their workloads."""

import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fabricmgr.__main__ import main
from fabricmgr.settings import ManagerSettings
from tests.support.guarded_api import TOKEN, GuardedApi, guarded_api_aside
from tests.support.kube_api import listed
from tests.support.manager import PASSWORD, Served, serving

POOLS = {"pods": "10.41.0.0/24", "shop": "10.42.0.0/24", "lb": "192.0.2.0/28"}


@pytest.fixture
def api() -> Iterator[GuardedApi]:
    with guarded_api_aside() as found:
        yield found


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with serving(database_url, tmp_path, ManagerSettings(outbound_allow=(ip_network("127.0.0.1/32"),))) as found:
        yield found


@pytest.fixture
def client(served: Served) -> httpx2.Client:
    return served.login()


def add(client: httpx2.Client, api: GuardedApi, **more: Any) -> httpx2.Response:
    return client.post("/v1/clusters", json={"name": "lab", "kubeconfig": api.kubeconfig(), **more})


def refused(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["error"]["message"] if "error" in answer.json() else answer.json())


def pool(client: httpx2.Client, name: str, prefix: str, **more: Any) -> httpx2.Response:
    return client.post("/v1/pools", json={"name": name, "prefixes": [{"prefix": prefix}], **more})


def test_a_cluster_is_added_with_what_its_server_says(client: httpx2.Client, api: GuardedApi) -> None:
    answer = add(client, api)

    shown = client.get("/v1/clusters/lab").json()["api"]
    assert answer.status_code == 201, answer.text
    assert shown == {
        "server": api.url,
        "in_cluster": False,
        "server_version": "v1.37.2",
        "state": "new",
        "reason": "",
        "progressed_at": None,
        "pod_ranges": ["10.40.0.0/23"],
        "service_ranges": ["10.96.0.0/16"],
        "class_less": False,
    }
    assert client.get("/v1/clusters").json()["items"][-1]["api"]["server"] == api.url
    assert TOKEN not in answer.text + client.get("/v1/clusters/lab").text + client.get("/v1/history").text


def test_ranges_that_are_given_are_not_asked_for(client: httpx2.Client, api: GuardedApi) -> None:
    answer = add(client, api, pod_ranges=["10.50.0.0/16"], service_ranges=["10.97.0.0/16", "fd00:97::/108"])

    assert answer.json()["api"]["service_ranges"] == ["10.97.0.0/16", "fd00:97::/108"]
    assert api.paths == ["/version"]


@pytest.mark.parametrize(
    ("name", "prefix", "more", "sentence"),
    [
        ("infra", "10.96.8.0/24", {}, "the service range 10.96.0.0/16 of cluster 'lab' meets prefix 10.96.8.0/24 of pool 'infra'"),
        (
            "lb",
            "10.40.1.0/28",
            {"purpose": "Service"},
            "the pod range 10.40.0.0/23 of cluster 'lab' meets prefix 10.40.1.0/28 of pool 'lb'",
        ),
        ("foreign", "10.40.1.0/24", {"cluster": "default"}, "the pod range 10.40.0.0/23 of cluster 'lab' meets prefix 10.40.1.0/24"),
    ],
)
def test_a_range_that_meets_a_pool_is_refused_whichever_comes_later(
    client: httpx2.Client, api: GuardedApi, name: str, prefix: str, more: dict[str, Any], sentence: str
) -> None:
    client.post("/v1/clusters", json={"name": "default"})
    pool(client, name, prefix, **more)

    first = refused(add(client, api))
    missing = client.get("/v1/clusters/lab").status_code
    client.delete(f"/v1/pools/{name}")
    added = add(client, api)
    second = refused(pool(client, name, prefix, **more))

    assert (first[0], missing, added.status_code, second[0]) == (409, 404, 201, 409)
    assert sentence in first[1]
    assert sentence in second[1]


def test_a_pool_of_the_cluster_may_lie_in_its_pod_range(client: httpx2.Client, api: GuardedApi) -> None:
    assert add(client, api).status_code == 201

    assert pool(client, "own", "10.40.0.0/24", cluster="lab").status_code == 201


def test_what_is_wrong_with_a_kubeconfig_is_said_and_nothing_is_made(client: httpx2.Client, api: GuardedApi) -> None:
    with guarded_api_aside() as other, guarded_api_aside("20") as old:
        strange = api.kubeconfig().replace(api.url, other.url)
        tries = {
            "exec": api.kubeconfig(exec={"command": "aws"}),
            "wrong or expired": api.kubeconfig("expired"),
            "is not trusted": strange,
            "the oldest that is served": old.kubeconfig(),
            "cannot be reached": api.kubeconfig().replace(api.url, "https://127.0.0.1:1"),
            "outbound_allow": api.kubeconfig().replace(api.url, "https://192.0.2.77:6443"),
        }
        said = {word: refused(client.post("/v1/clusters", json={"name": "lab", "kubeconfig": text})) for word, text in tries.items()}

    for word, (code, sentence) in said.items():
        assert code in (400, 503), (word, code, sentence)
        assert word in sentence
    assert client.get("/v1/clusters/lab").status_code == 404


def test_a_verb_that_is_forbidden_is_named(client: httpx2.Client, api: GuardedApi) -> None:
    api.refused.add("/api/v1/nodes")

    code, sentence = refused(add(client, api))

    assert (code, "list nodes" in sentence) == (409, True)


def test_credentials_are_rotated_and_the_server_is_asked_first(client: httpx2.Client, api: GuardedApi) -> None:
    assert add(client, api).status_code == 201
    api.tokens = {"second"}

    wrong = client.patch("/v1/clusters/lab", json={"kubeconfig": api.kubeconfig("third")})
    right = client.patch("/v1/clusters/lab", json={"kubeconfig": api.kubeconfig("second")})
    kept = client.patch("/v1/clusters/lab", json={"class_less": True})

    assert (wrong.status_code, right.status_code, kept.status_code) == (400, 200, 200), kept.text
    assert kept.json()["api"]["class_less"] is True
    assert kept.json()["api"]["service_ranges"] == ["10.96.0.0/16"]


def test_an_api_that_is_forgotten_leaves_the_cluster_and_frees_its_ranges(client: httpx2.Client, api: GuardedApi) -> None:
    assert add(client, api).status_code == 201

    gone = client.delete("/v1/clusters/lab/api")

    assert (gone.status_code, client.delete("/v1/clusters/lab/api").status_code) == (204, 404)
    assert client.get("/v1/clusters/lab").json()["api"] is None
    assert pool(client, "infra", "10.96.8.0/24").status_code == 201


def test_selectors_of_a_pool_are_set_changed_and_taken_away(client: httpx2.Client) -> None:
    wanted = {"namespaces": ["shop"], "namespace_labels": {"team": ["a"]}, "node_labels": {}, "services": {}}
    made = pool(client, "shop", "10.42.0.0/24", selectors=wanted, priority=5, auto_assign=False)

    bad = client.patch("/v1/pools/shop", json={"selectors": {"services": {"a": ["b"]}}})
    emptied = client.patch("/v1/pools/shop", json={"selectors": {}, "auto_assign": True})

    assert (made.json()["selectors"], made.json()["priority"], made.json()["auto_assign"]) == (wanted, 5, False)
    assert bad.status_code == 400
    assert (emptied.json()["selectors"]["namespaces"], emptied.json()["auto_assign"]) == ([], True)


def test_explain_simulate_and_the_command_line_tell_one_story(
    served: Served,
    client: httpx2.Client,
    api: GuardedApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FABRICMGR_LOGIN", str(tmp_path / "login" / "login.json"))
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "ca.pem").write_text(served.authorities)
    (tmp_path / "kubeconfig").write_text(api.kubeconfig())
    (tmp_path / "web.yaml").write_text(MANIFEST)
    api.holds("/api/v1/namespaces/shop/services/web", {"metadata": {"name": "web", "uid": "s"}, "spec": {"type": "LoadBalancer"}})
    api.says("GET /api/v1/pods", listed())

    def run(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        code = main(list(arguments))
        said = capfd.readouterr()
        return code, said.out + said.err

    signed = ("--account", "admin", "--password-file", str(tmp_path / "password"), "--ca", str(tmp_path / "ca.pem"))
    assert run("login", served.url, *signed)[0] == 0
    added = run("cluster", "add", "lab", "--kubeconfig", str(tmp_path / "kubeconfig"))
    assert added == (0, "cluster lab added\n")
    assert run("pool", "add", "pods", POOLS["pods"])[0] == 0
    assert run("pool", "add", "shop", POOLS["shop"], "--namespaces", "shop", "--priority", "5", "--central")[0] == 0
    assert run("pool", "add", "lb", POOLS["lb"], "--purpose", "Service")[0] == 0
    assert run("network", "add", "podnet", "-c", "lab", "--pool", "pods", "--pool", "shop")[0] == 0
    assert run("network", "add", "second", "-c", "lab", "--pool", "pods")[0] == 0

    code, text = run("simulate", "-f", str(tmp_path / "web.yaml"), "-c", "lab", "-n", "shop", "-o", "json")
    found = json.loads(text)
    too_many = MANIFEST.replace("replicas: 3", "replicas: 600")
    (tmp_path / "web.yaml").write_text(too_many)
    full = run("simulate", "-f", str(tmp_path / "web.yaml"), "-c", "lab", "-n", "shop")
    beside = run("simulate", "-f", str(tmp_path / "web.yaml"), "-c", "lab", "-n", "shop", "--network", "second")
    explained = run("explain", "service", "web", "-n", "shop", "-c", "lab")
    shown = run("cluster", "show", "lab")

    assert (code, found["fits"], found["network"]) == (0, True, "podnet"), text
    assert found["objects"][0]["taken"] == [{"pool": "shop", "family": 4, "count": 3}]
    assert found["objects"][1]["taken"] == [{"pool": "lb", "family": 4, "count": 1}]
    assert found["passed"] == ["ConfigMap settings: it asks for no address"]
    assert {each["pool"]: each["before"] - each["after"] for each in found["left"]} == {"lb": 1, "pods": 0, "shop": 3}
    assert full[0] == 1
    assert "it does not fit, with pods in network podnet\n" in full[1]
    assert "it does not fit, with pods in network second\n" in beside[1]
    assert explained[0] == 0
    assert "decided by the manager" in explained[1]
    assert TOKEN not in shown[1]
    assert "v1.37.2" in shown[1]
    absent = (1, "fabricmgr: there is no workload 'shop/web'\n")
    assert run("workload", "peers", "web", "-n", "shop", "-c", "lab", "--kind", "Deployment") == absent
    assert run("explain", "pod", "web-1", "-n", "shop", "-c", "lab")[1] == "fabricmgr: there is no pod 'shop/web-1'\n"
    assert run("pool", "change", "shop", "--namespaces", "")[0] == 0
    assert '"namespaces": []' in run("pool", "show", "shop", "-o", "json")[1]
    assert run("cluster", "forget-api", "lab")[0] == 0


MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  template: {metadata: {labels: {app: web}}, spec: {containers: []}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, loadBalancerClass: fabricmgr.io/lb, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
"""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (MANIFEST.replace("replicas: 3", "replicas: many"), "Deployment web: spec.replicas"),
        (MANIFEST.replace("kind: Deployment", "knd: Deployment"), "document 1: kind"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("a: [", "no YAML"),
        (MANIFEST.replace("type: LoadBalancer,", "type: LoadBalancer, ipFamilies: [IPv5],"), "Service web: spec.ipFamilies"),
    ],
)
def test_what_cannot_be_read_of_a_manifest_is_named(client: httpx2.Client, text: str, word: str) -> None:
    client.post("/v1/clusters", json={"name": "lab"})
    pool(client, "pods", POOLS["pods"])
    client.post("/v1/clusters/lab/networks", json={"name": "podnet", "pools": ["pods"]})

    code, sentence = refused(client.post("/v1/clusters/lab/simulate", json={"manifest": text}))

    assert code == 400
    assert word in sentence
