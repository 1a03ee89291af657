"""The service root (DSP0266, 8.2)."""

from dataclasses import dataclass
from uuid import UUID

from fabricmgr import __version__
from fabricmgr.redfish import query
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.resource import Ask, Resource
from fabricmgr.services import installation

# Of the specification this service follows.
REDFISH_VERSION = "1.22.0"


@dataclass(frozen=True)
class Root:
    """installation: the UUID by which clients know the service again."""

    installation: UUID


async def get(ask: Ask) -> Root:
    kept = ask.site.kept
    if kept.installation is None:
        async with ask.database.look() as tx:
            kept.installation = await installation.get(tx)
    return Root(kept.installation)


def body(root: Root) -> Json:
    return {
        "Id": "RootService",
        "Name": "Fabric Manager",
        "Product": f"fabricmgr {__version__}",
        "RedfishVersion": REDFISH_VERSION,
        "UUID": str(root.installation),
        "ProtocolFeaturesSupported": query.FEATURES,
        "EventService": {"@odata.id": "/redfish/v1/EventService"},
        "Chassis": {"@odata.id": "/redfish/v1/Chassis"},
        "Fabrics": {"@odata.id": "/redfish/v1/Fabrics"},
        "Tasks": {"@odata.id": "/redfish/v1/TaskService"},
        "TelemetryService": {"@odata.id": "/redfish/v1/TelemetryService"},
        "Systems": {"@odata.id": "/redfish/v1/Systems"},
        "AccountService": {"@odata.id": "/redfish/v1/AccountService"},
        "Managers": {"@odata.id": "/redfish/v1/Managers"},
        "CertificateService": {"@odata.id": "/redfish/v1/CertificateService"},
        "JsonSchemas": {"@odata.id": "/redfish/v1/JsonSchemas"},
        "Registries": {"@odata.id": "/redfish/v1/Registries"},
        "SessionService": {"@odata.id": "/redfish/v1/SessionService"},
        "Links": {"Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"}},
    }


service_root = Resource(schema="ServiceRoot", uri="/redfish/v1/", get=get, body=body, open_to_all=True)
