"""Objects as tests apply them. Pods run the one image there is; it waits, or serves its pod's name over HTTP at PORT."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support import pause

PORT = 8080

Json = dict[str, Any]


def pod_spec(*arguments: str, **more: Any) -> Json:
    """arguments: for `/pause`; a port to serve at. more: fields of the container."""
    container = {"name": "main", "image": pause.NAME, "imagePullPolicy": "Never", "command": ["/pause", *arguments], **more}
    return {"terminationGracePeriodSeconds": 1, "containers": [container]}


def pod(name: str, *, annotations: Mapping[str, str] | None = None, spec: Mapping[str, Any] | None = None, **container: Any) -> Json:
    """A pod that serves, with the label `app`. spec: fields of its own beside the container's."""
    metadata = {"name": name, "labels": {"app": name}, "annotations": dict(annotations or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**pod_spec(str(PORT), **container), **(spec or {})}}


def deployment(name: str, replicas: int, *, serves: bool = True, annotations: Mapping[str, str] | None = None) -> Json:
    """Pods spread evenly over the nodes, labelled `app` with its name."""
    labels = {"app": name}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": labels},
    }
    spec = pod_spec(*[str(PORT)] if serves else [])
    template = {
        "metadata": {"labels": labels, "annotations": dict(annotations or {})},
        "spec": {**spec, "topologySpreadConstraints": [spread]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def service(name: str, *, kind: str = "ClusterIP", port: int = 80, families: Sequence[int] = (), **more: Any) -> Json:
    """In front of the pods labelled `app` with its name. families: those it asks for, none for the cluster's first one."""
    spec: Json = {"type": kind, "selector": {"app": name}, "ports": [{"port": port, "targetPort": PORT}], **more}
    if families:
        spec["ipFamilies"] = [f"IPv{family}" for family in families]
        spec["ipFamilyPolicy"] = "RequireDualStack" if len(families) > 1 else "SingleStack"
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
