"""Last segments of URIs: unreserved characters alone, so that nothing is percent-encoded (DSP0266, 6.5).

Names of clusters, nodes, pools and zones are lower case with '-' and '.', so '_' and capitals keep parts of an id apart."""

from uuid import UUID

from fabricmgr.domain.addresses import Prefix, parse_prefix
from fabricmgr.domain.errors import Invalid, NotFound
from fabricmgr.domain.names import DEFAULT_CLUSTER, ClusterName, NodeName, cluster_name, node_name

SYSTEMS = "/redfish/v1/Systems"
CHASSIS = "/redfish/v1/Chassis"
FABRIC = "/redfish/v1/Fabrics/ethernet"
POOLS = f"{FABRIC}/AddressPools"
ZONES = f"{FABRIC}/Zones"
ENDPOINTS = f"{FABRIC}/Endpoints"
SWITCHES = f"{FABRIC}/Switches"


def system_id(cluster: str, node: str) -> str:
    """Of a node: its name, behind that of its cluster unless it is the default one."""
    return node if cluster == DEFAULT_CLUSTER else f"{cluster}_{node}"


def system_of(text: str) -> tuple[ClusterName, NodeName]:
    """The node behind an id. Raises NotFound."""
    cluster, parted, node = text.rpartition("_")
    try:
        return cluster_name(cluster if parted else DEFAULT_CLUSTER), node_name(node)
    except Invalid:
        raise NotFound("system", text) from None


def system_uri(cluster: str, node: str) -> str:
    return f"{SYSTEMS}/{system_id(cluster, node)}"


def prefix_id(prefix: Prefix) -> str:
    """10.1.0.0-26; 2001_db8__-64."""
    return str(prefix).replace("/", "-").replace(":", "_")


def prefix_of(text: str, kind: str) -> Prefix:
    """Raises NotFound."""
    address, _, length = text.rpartition("-")
    try:
        found = parse_prefix(f"{address.replace('_', ':')}/{length}")
    except Invalid:
        raise NotFound(kind, text) from None
    if prefix_id(found) != text:
        raise NotFound(kind, text)
    return found


def uuid_of(text: str, kind: str) -> UUID:
    """The UUID behind an id, which is spelt in one way only. Raises NotFound."""
    try:
        found = UUID(text)
    except ValueError:
        raise NotFound(kind, text) from None
    if str(found) != text:
        raise NotFound(kind, text)
    return found


def reference(uri: str) -> dict[str, str]:
    """A link."""
    return {"@odata.id": uri}


def references(uris: "list[str]") -> list[dict[str, str]]:
    """Links."""
    return [reference(each) for each in uris]


def last(link: dict[str, str]) -> str:
    """The last segment of what a link points to."""
    return link["@odata.id"].rstrip("/").rpartition("/")[2]


def counted(name: str, uris: "list[str]") -> dict[str, object]:
    """Links under a name, with their count as annotation."""
    return {name: references(uris), f"{name}@odata.count": len(uris)}


def zone_id(cluster: str, zone: str) -> str:
    """Of a group of endpoints: behind its cluster, which is the zone around it."""
    return f"{cluster}_{zone}"


def workload_id(kind: str, namespace: str, name: str) -> str:
    """Deployment.shop.web: a namespace has no dot."""
    return f"{kind}.{namespace}.{name}"


def workload_uri(cluster: str, kind: str, namespace: str, name: str) -> str:
    return f"{ZONES}/{cluster}/Oem/FabricMgr/Workloads/{workload_id(kind, namespace, name)}"
