"""Workloads of a cluster: an OEM collection of its zone, since the standard has no word for what pods belong to (docs/decisions/0046)."""

from collections.abc import Sequence

from fabricmgr.domain.errors import Invalid, NotFound
from fabricmgr.domain.kube import KubePod
from fabricmgr.domain.names import ClusterName, cluster_name
from fabricmgr.domain.workload import Met as Seen
from fabricmgr.domain.workload import Obstacle, Rollout
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource, texts
from fabricmgr.redfish.resources.fabrics import known
from fabricmgr.services import workloads
from fabricmgr.services.workloads import KINDS, WorkloadView
from fabricmgr.store.workload_rows import Filter, Key

PAGE = 200
MOST_PODS = 100  # shown at one workload
ROLLOUTS = {Rollout.PROGRESSING: "Progressing", Rollout.STALLED: "Stalled", Rollout.COMPLETE: "Complete"}
_FIELDS = {"Kind": "kind", "Namespace": "namespace", "WorkloadName": "name"}


async def get(ask: Ask) -> WorkloadView:
    known(ask.params["fabric_id"])
    (found,) = await load(ask, [ask.params["workload_id"]])
    return found


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[WorkloadView]:
    """Raises NotFound for the first that is not there."""
    cluster, keys = _cluster(ask), [_key(each) for each in wanted]
    async with ask.database.read() as tx:
        found = await workloads.views(tx, cluster, keys)
    missing = next((each for each, key in zip(wanted, keys, strict=True) if key not in found), None)
    if missing is not None:
        raise NotFound("workload", missing)
    return [found[key] for key in keys]


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    known(ask.params["fabric_id"])
    cluster = _cluster(ask)
    async with ask.database.read() as tx:
        found, total = await workloads.some(tx, cluster, _wanted(ask), skip, PAGE if top is None else top)
    return [ids.workload_id(each.kind, each.namespace, each.name) for each in found], total


def _wanted(ask: Ask) -> Filter:
    try:
        return Filter(**{_FIELDS[name]: value for name, value in texts(ask).items()})
    except Invalid:
        return Filter(kind="")  # no workload has such a value


def _cluster(ask: Ask) -> ClusterName:
    """Raises NotFound: other zones than clusters have no workloads."""
    try:
        return cluster_name(ask.params["zone_id"])
    except Invalid:
        raise NotFound("zone", ask.params["zone_id"]) from None


def _key(text: str) -> Key:
    kind, _, rest = text.partition(".")
    namespace, _, name = rest.partition(".")
    if kind not in KINDS or not name:
        raise NotFound("workload", text)
    return Key(kind, namespace, name)


def body(found: WorkloadView) -> Json:
    key, memory = found.key, found.memory
    page: Json = {
        "Id": ids.workload_id(key.kind, key.namespace, key.name),
        "Name": f"{key.kind} {key.namespace}/{key.name}",
        "Kind": key.kind,
        "Namespace": key.namespace,
        "WorkloadName": key.name,
        "UID": found.uid,
        "Paused": memory.paused,
        "Unschedulable": [_obstacle(each, met) for each, met in memory.met.items()],
        "PodCount": len(found.pods),
        "Pods": [_pod(each) for each in found.pods[:MOST_PODS]],
        "ChangedAt": found.at.isoformat(timespec="seconds"),
        "Links": {"Zone": ids.reference(f"{ids.ZONES}/{found.cluster}")},
    }
    return page | _said(found)


def _said(found: WorkloadView) -> Json:
    """Only what there is something to say of."""
    memory = found.memory
    said: Json = {"Revision": memory.revision} if memory.revision else {}
    said |= {"Rollout": ROLLOUTS[memory.rollout]} if memory.rollout in ROLLOUTS else {}
    return said | ({} if memory.available is None else {"Available": memory.available})


def _obstacle(each: Obstacle, met: Seen) -> Json:
    return {"Resource": each.resource, "Reason": each.reason, "Since": met.since.isoformat(timespec="seconds")}


def _pod(pod: KubePod) -> Json:
    return {"Name": pod.name, "Node": pod.node, "Addresses": [str(each) for each in pod.addresses], "Ready": pod.ready}


workload = Resource(
    schema="FabricMgrWorkload",
    uri="/redfish/v1/Fabrics/{fabric_id}/Zones/{zone_id}/Oem/FabricMgr/Workloads/{workload_id}",
    get=get,
    body=body,
    members=members,
    load=load,
    page_size=PAGE,
    filters=frozenset(_FIELDS),
    collection_name="Workloads",
)
