"""The Redfish service as a whole: every resource in one tree, behind one layer."""

from collections.abc import Callable
from datetime import datetime

from fabricmgr.redfish.documents import documents
from fabricmgr.redfish.layer import Layer
from fabricmgr.redfish.resource import Site, Tree
from fabricmgr.redfish.resources.address_pools import address_pool
from fabricmgr.redfish.resources.fabrics import fabric
from fabricmgr.redfish.resources.service_root import service_root
from fabricmgr.redfish.resources.sessions import session, session_service

RESOURCES = (service_root, session_service, session, fabric, address_pool)
SERVICES = {
    "Service": "/redfish/v1/",
    "SessionService": "/redfish/v1/SessionService",
    "Sessions": "/redfish/v1/SessionService/Sessions",
    "Fabrics": "/redfish/v1/Fabrics",
}


def tree() -> Tree:
    """All resources."""
    found = Tree()
    for resource in RESOURCES:
        found.add(resource)
    return found


def build(site: Site, clock: Callable[[], datetime]) -> Layer:
    """The layer over all resources."""
    return Layer(tree(), documents(SERVICES), site, clock)
