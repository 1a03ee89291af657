"""The Redfish service as a whole: every resource in one tree, behind one layer."""

from collections.abc import Callable
from datetime import datetime

from fabricmgr import dmtf
from fabricmgr.redfish import openapi
from fabricmgr.redfish.documents import documents
from fabricmgr.redfish.layer import Document, Layer
from fabricmgr.redfish.resource import Place, Site, Tree
from fabricmgr.redfish.resources.accounts import account, account_service, privilege_map, role
from fabricmgr.redfish.resources.address_pools import address_pool
from fabricmgr.redfish.resources.allocations import allocation
from fabricmgr.redfish.resources.blocks import block
from fabricmgr.redfish.resources.certificates import certificate_locations, certificate_service, server_certificates
from fabricmgr.redfish.resources.chassis import chassis
from fabricmgr.redfish.resources.client_certificates import account_certificate, client_authority
from fabricmgr.redfish.resources.endpoints import endpoint
from fabricmgr.redfish.resources.ethernet_interfaces import ethernet_interface
from fabricmgr.redfish.resources.event_service import event_service
from fabricmgr.redfish.resources.fabrics import fabric
from fabricmgr.redfish.resources.logs import log_entry, log_service
from fabricmgr.redfish.resources.managers import manager, network_protocol
from fabricmgr.redfish.resources.node_certificates import node_certificate
from fabricmgr.redfish.resources.ports import port, port_metrics
from fabricmgr.redfish.resources.registries import json_schema, registry
from fabricmgr.redfish.resources.service_root import service_root
from fabricmgr.redfish.resources.sessions import session, session_service
from fabricmgr.redfish.resources.subscriptions import subscription
from fabricmgr.redfish.resources.switches import switch, switch_metrics
from fabricmgr.redfish.resources.systems import system
from fabricmgr.redfish.resources.tasks import task_monitor, task_resource, task_service
from fabricmgr.redfish.resources.telemetry import metric_definition, metric_report, report_definition, telemetry_service
from fabricmgr.redfish.resources.triggers import triggers
from fabricmgr.redfish.resources.workloads import workload
from fabricmgr.redfish.resources.zones import zone
from fabricmgr.web.responses import encode

RESOURCES = (
    service_root,
    session_service,
    session,
    account_service,
    account,
    account_certificate,
    client_authority,
    role,
    privilege_map,
    manager,
    network_protocol,
    log_service,
    log_entry,
    server_certificates,
    certificate_service,
    certificate_locations,
    node_certificate,
    json_schema,
    registry,
    event_service,
    subscription,
    fabric,
    address_pool,
    block,
    allocation,
    switch,
    switch_metrics,
    port,
    port_metrics,
    endpoint,
    zone,
    workload,
    system,
    ethernet_interface,
    chassis,
    task_service,
    task_resource,
    task_monitor,
    telemetry_service,
    metric_definition,
    report_definition,
    metric_report,
    triggers,
)
SERVICES = {
    "Service": "/redfish/v1/",
    "SessionService": "/redfish/v1/SessionService",
    "Sessions": "/redfish/v1/SessionService/Sessions",
    "AccountService": "/redfish/v1/AccountService",
    "Managers": "/redfish/v1/Managers",
    "CertificateService": "/redfish/v1/CertificateService",
    "JsonSchemas": "/redfish/v1/JsonSchemas",
    "Registries": "/redfish/v1/Registries",
    "EventService": "/redfish/v1/EventService",
    "Chassis": "/redfish/v1/Chassis",
    "Fabrics": "/redfish/v1/Fabrics",
    "Systems": "/redfish/v1/Systems",
    "Tasks": "/redfish/v1/TaskService",
    "TelemetryService": "/redfish/v1/TelemetryService",
}


def tree() -> Tree:
    """All resources."""
    found = Tree()
    for resource in RESOURCES:
        found.add(resource)
    return found


def build(site: Site, clock: Callable[[], datetime]) -> Layer:
    """The layer over all resources."""
    found = tree()
    described = Document("application/yaml", lambda: encode(openapi.described(found)), open=False)
    return Layer(found, {**documents(SERVICES), openapi.PATH: described}, site, clock)


def route_table() -> str:
    """Every route with its methods and what each asks: a line a method, any of the privileges behind it will do."""
    lines = []
    for resource in tree().resources:
        places = [Place(resource, False, {}), *(Place(resource, False, {}, action) for action in resource.actions)]
        places += [Place(resource, False, {}, stream=stream) for stream in resource.streams]
        if resource.members is not None:
            places.insert(0, Place(resource, True, {}))
        lines += [line for place in places for line in _lines(place)]
    return "\n".join([*lines, ""])


def _lines(place: Place) -> list[str]:
    resource = place.resource
    uri = resource.collection_uri if place.collection else place.action.target(resource.uri) if place.action else resource.uri
    if place.stream is not None:
        uri = place.stream.uri(resource.uri)
    return [f"{method:6} {uri:90} {_asked(place, method)}" for method in place.methods if method != "HEAD"]


def _asked(place: Place, method: str) -> str:
    if (place.resource.open_to_all and not place.collection) or (place.resource.login and place.collection and method == "POST"):
        return "anybody"
    own = " (own)" if place.resource.own is not None and not place.collection else ""
    more = dmtf.property_privileges(place.entity, method) if place.action is None else {}
    return "; ".join([_any_of(place.asked(method), own), *(f"{name}: {_any_of(asked, own)}" for name, asked in more.items())])


def _any_of(asked: list[list[str]], own: str) -> str:
    return " | ".join("+".join(needed) + (own if "ConfigureSelf" in needed else "") for needed in asked)
