"""Each thing that the manager does in a cluster works by its own role alone; without that role, the right that it lacks is named.

What all roles together allow and what is used of it is held side by side in test_installed.py.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import pytest

from fabricmgr.controllers.kube_nodes import FREE
from fabricmgr.domain.kube import ADDRESSES
from fabricmgr.services.pod_tokens import AUDIENCE
from tests.e2e.kube.test_following import api, last, told
from tests.support.enrol import request
from tests.support.kube import manifests, objects, rights
from tests.support.kube.cluster import Cluster, Json
from tests.support.kube.options import SERVICES
from tests.support.node_agent import wait_for

# What each function takes. Whoever writes in a cluster follows it too; a token is reviewed without that.
ALONE = {
    "follow": {"follow"},
    "services": {"follow", "services"},
    "headroom": {"follow", "headroom"},
    "node-tokens": {"node-tokens"},
}
TOKENS = ("create", "authentication.k8s.io", "tokenreviews")
CORE = ("namespaces", "nodes", "pods", "services")
APPS = ("daemonsets", "deployments", "replicasets", "statefulsets")
LISTS = {
    *(("list", "", each) for each in CORE),
    *(("list", "apps", each) for each in APPS),
    ("list", "discovery.k8s.io", "endpointslices"),
    ("list", "networking.k8s.io", "servicecidrs"),
}
WATCHES = {("watch", group, resource) for _, group, resource in LISTS}  # of the following before, until it ends
FORBIDDEN = {
    "follow": {("patch", "", "services"), ("patch", "", "nodes"), TOKENS},
    "services": {("patch", "", "nodes"), TOKENS},
    "headroom": {("patch", "", "services"), TOKENS},
    "node-tokens": LISTS,
}
POOL = "rights"


@pytest.fixture(scope="module")
def granted(cluster: Cluster) -> Iterator[Cluster]:
    """With a pool for Services, a namespace that the manager decides for, and the agents' service account. All roles count afterwards."""
    manifests.grant(cluster)
    cluster.kubectl("apply", "-f", str(manifests.MANIFESTS / "agent/serviceaccount.yaml"))
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": rights.CENTRAL})
    cluster.manager.make_pool(POOL, rights.FRONT, purpose="Service", cooldown_seconds=0)
    yield cluster
    manifests.grant(cluster)
    wait_for("nothing is held", lambda: not cluster.manager.allocations(), 30)
    cluster.manager.ask("DELETE", f"/v1/pools/{POOL}")
    cluster.delete("namespace", rights.CENTRAL["name"])
    cluster.delete("serviceaccount", "fabricmgr-agent", "-n", manifests.SPACE)


@contextmanager
def only(cluster: Cluster, functions: set[str]) -> Iterator[int]:
    """The manager's account is bound to their roles and to no others, and the following of the cluster begins anew.

    Gives how much the API server had written down before that."""
    kept = {f"fabricmgr-{each}" for each in functions}
    cluster.kubectl("apply", "-k", str(manifests.MANIFESTS / "rbac"))
    others = rights.bound(cluster) - kept
    cluster.delete("clusterrolebinding", *others)
    lost = rights.listed(cluster, others) - rights.listed(cluster, kept)
    wait_for("the API server knows", lambda: not any(may(cluster, *right) for right in lost), 10)
    before = len(rights.recorded(cluster))
    # With its ranges told: they are not to be asked for.
    told = {"kubeconfig": manifests.access(cluster), "service_ranges": list(SERVICES.values()), "pod_ranges": []}
    cluster.manager.ask("PATCH", "/v1/clusters/default", told)
    wait_for("it is begun", lambda: api(cluster)["state"] in ("following", "refused"), 20)
    try:
        yield before
    finally:
        cluster.kubectl("apply", "-k", str(manifests.MANIFESTS / "rbac"))


def may(cluster: Cluster, verb: str, group: str, resource: str) -> bool:
    """As the API server's own review says (authorization.k8s.io/v1 SubjectAccessReview)."""
    name, _, below = resource.partition("/")
    asked = {"verb": verb, "group": group, "resource": name, "subresource": below}
    user = f"system:serviceaccount:{manifests.SPACE}:fabricmgr-manager"
    spec = {"user": user, "resourceAttributes": asked}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    return bool(json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", given=json.dumps(review)))["status"]["allowed"])


@pytest.mark.parametrize("function", ALONE)
def test_a_function_works_by_its_role_and_the_others_name_the_right_they_lack(granted: Cluster, function: str) -> None:
    with only(granted, ALONE[function]) as before:
        said = {name: tried(granted) for name, tried in TRIES.items()}
        records = rights.recorded(granted)[before:]

    forbidden = rights.used(rights.refused(records))
    allowed = rights.used([each for each in records if each not in rights.refused(records)])
    assert {name for name, lacking in said.items() if not lacking} == ALONE[function]
    assert forbidden - WATCHES == FORBIDDEN[function]
    assert set(said.values()) - {""} <= {f"{verb} {resource}" for verb, _, resource in forbidden}
    assert rights.listed(granted, [f"fabricmgr-{function}"]) <= allowed


# --- each function, tried: nothing where it worked, else the right that is named as missing -----------------------------------


def lacking(cluster: Cluster, *wanted: str, works: Callable[[], object]) -> str:
    """Which of these rights the cluster's page says are missing; nothing once it works."""
    named = ""

    def known() -> bool:
        nonlocal named
        reason = api(cluster)["reason"]
        named = next((each for each in wanted if f"does not allow us to {each}:" in reason), "")
        return bool(named or works())

    wait_for(f"it works, or {wanted} is named", known, 30)
    return named


def try_follow(cluster: Cluster) -> str:
    """A Deployment is told of, and the API server is asked for a pod, its namespace and a Service that nobody has seen."""
    before = last(cluster)
    cluster.apply(objects.deployment("followed", 1), objects.service("followed", kind="LoadBalancer", loadBalancerClass="other.io/lb"))
    try:
        if named := lacking(cluster, "list pods", works=lambda: "WorkloadComplete" in told(cluster, before, name="followed")):
            return named
        cluster.manager.ask("GET", "/v1/clusters/default/explain/services/default/followed")
        rights.ask_who_a_pod_is(cluster)
    finally:
        cluster.delete("deployment/followed", "service/followed")
    return ""


def try_services(cluster: Cluster) -> str:
    """It waits with a reason, with another, with the first again, which is counted; then it has an address and gives it back."""
    try:
        for address in ("198.51.100.77", "198.51.100.78", "198.51.100.77"):
            if named := wish(cluster, address):
                return named
        wait_for("the first reason is counted", lambda: repeated(cluster), 20)
        cluster.apply(wishing())
        wait_for("it has an address", lambda: cluster.get("service", "wishing")["status"]["loadBalancer"].get("ingress"), 20)
    finally:
        cluster.delete("service/wishing")
    return ""


def wish(cluster: Cluster, address: str) -> str:
    """For one that no pool has: the Service says that it waits for it."""
    cluster.apply(wishing(address))
    return lacking(cluster, "patch services", "list services", works=lambda: address in conditions(cluster))


def repeated(cluster: Cluster) -> bool:
    """Whether an Event of the Service counts more than one: it is written after the condition."""
    uid = cluster.get("service", "wishing")["metadata"]["uid"]
    return any(each.get("count", 0) > 1 for each in cluster.items("events", "--field-selector", f"involvedObject.uid={uid}"))


def wishing(address: str = "") -> Json:
    made = objects.service("wishing", kind="LoadBalancer", loadBalancerClass="fabricmgr.io/lb")
    made["metadata"]["annotations"] = {ADDRESSES: address} if address else {}
    return made


def conditions(cluster: Cluster) -> str:
    return str(cluster.get("service", "wishing")["status"].get("conditions", []))


def try_headroom(cluster: Cluster) -> str:
    """A label that somebody took away is back; Nodes without addresses say so, twice, which is counted."""
    cluster.kubectl("label", "node", "node1", f"{FREE}-")
    if named := lacking(cluster, "patch nodes", "list nodes", works=lambda: FREE in cluster.get("node", "node1")["metadata"]["labels"]):
        return named
    rights.run_out_of_addresses(cluster)
    rights.run_out_of_addresses(cluster)
    return ""


def try_tokens(cluster: Cluster) -> str:
    """A node joins by the token of a pod that is bound to it. The pod never runs: there is no such machine."""
    spec = {**objects.pod_spec(), "serviceAccountName": "fabricmgr-agent", "nodeName": "spare"}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "spare", "namespace": manifests.SPACE}, "spec": spec})
    try:
        uid = cluster.get("pod", "spare", "-n", manifests.SPACE)["metadata"]["uid"]
        bound = ("--bound-object-kind=Pod", "--bound-object-name=spare", f"--bound-object-uid={uid}", f"--audience={AUDIENCE}")
        token = cluster.kubectl("create", "token", "fabricmgr-agent", "-n", manifests.SPACE, *bound).strip()
        asked = msgspec.structs.replace(request(token, now=datetime.now(UTC), machine=uuid4().hex), cluster="default")
        status, text = cluster.manager.answer("POST", "/v1/enrol", msgspec.to_builtins(asked))
    finally:
        cluster.kubectl("delete", "pod", "spare", "-n", manifests.SPACE, "--force", "--grace-period=0")
    if status != 200:
        return "create tokenreviews" if "does not allow us to create tokenreviews" in text else text
    assert json.loads(text)["node"] == "spare"
    cluster.manager.ask("POST", "/v1/clusters/default/nodes/spare/gone")
    cluster.manager.ask("DELETE", "/v1/clusters/default/nodes/spare")
    return ""


TRIES = {"follow": try_follow, "services": try_services, "headroom": try_headroom, "node-tokens": try_tokens}
