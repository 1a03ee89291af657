"""Names: parsed once, at the edge, into types that cannot be wrong."""

import re
from typing import NewType

from fabricmgr.domain.errors import Invalid

ClusterName = NewType("ClusterName", str)
NetworkName = NewType("NetworkName", str)
NodeName = NewType("NodeName", str)
PoolName = NewType("PoolName", str)

DEFAULT_CLUSTER = ClusterName("default")

# Lower case letters, digits, '-' and '.', as Kubernetes names its objects (RFC 1123 subdomain):
# such a name is safe in a URI, a file name and a metric label.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
# What CNI allows for a network's name and a container's id (CNI SPEC 1.1.0, section 1 and 2).
_CNI_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*\Z")
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@\-]{0,252}\Z")

_SUBDOMAIN_RULE = "1 to 253 lower-case letters, digits, '-' and '.', starting and ending with a letter or digit"
_CNI_RULE = "1 to 253 letters, digits, '_', '.' and '-', starting with a letter or digit"


def _subdomain(field: str, text: str) -> str:
    if len(text) > 253 or not _SUBDOMAIN.match(text):
        raise Invalid(field, text, _SUBDOMAIN_RULE)
    return text


def cluster_name(text: str, field: str = "cluster") -> ClusterName:
    """Parse a cluster's name. Raises Invalid."""
    return ClusterName(_subdomain(field, text))


def node_name(text: str, field: str = "node") -> NodeName:
    """Parse a node's name. Raises Invalid."""
    return NodeName(_subdomain(field, text))


def pool_name(text: str, field: str = "pool") -> PoolName:
    """Parse a pool's name. Raises Invalid."""
    return PoolName(_subdomain(field, text))


def zone_name(text: str, field: str = "zone") -> str:
    """Parse the name of a zone in its cluster. Raises Invalid."""
    return _subdomain(field, text)


def network_name(text: str, field: str = "network") -> NetworkName:
    """Parse a network's name: the `name` of a CNI configuration (CNI SPEC 1.1.0, section 1). Raises Invalid."""
    return NetworkName(_cni(field, text))


def container_id(text: str, field: str = "container") -> str:
    """Parse a container's id (CNI SPEC 1.1.0, section 2). Raises Invalid."""
    return _cni(field, text)


def _cni(field: str, text: str) -> str:
    if len(text) > 253 or not _CNI_NAME.match(text):
        raise Invalid(field, text, _CNI_RULE)
    return text


def interface_name(text: str, field: str = "ifname") -> str:
    """Parse an interface's name by Linux's rule (dev_valid_name). Raises Invalid."""
    wrong = not 1 <= len(text.encode()) <= 15 or text in (".", "..") or any(c in "/:" or c.isspace() for c in text)
    if wrong:
        raise Invalid(field, text, "1 to 15 bytes, not '.' or '..', without '/', ':' or white space")
    return text


def owner_name(text: str, field: str = "owner") -> str:
    """Parse the name a direct client chooses for what it wants an address for. Raises Invalid."""
    if not _OWNER.match(text):
        raise Invalid(field, text, "1 to 253 letters, digits, '_', '.', ':', '@' and '-', starting with a letter or digit")
    return text
