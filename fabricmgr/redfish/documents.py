"""The pages that are no resource: the version object, the OData service document, and $metadata (DSP0266, 6.4, 8.4 and 8.5)."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

from fabricmgr import dmtf
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.layer import Document
from fabricmgr.web.responses import encode

_EDMX = "http://docs.oasis-open.org/odata/ns/edmx"
_EDM = "http://docs.oasis-open.org/odata/ns/edm"


def service_document(links: dict[str, str]) -> Json:
    """What OData clients start from. links: name of each service and its URI."""
    value = [{"name": name, "kind": "Singleton", "url": url} for name, url in links.items()]
    return {"@odata.context": "/redfish/v1/$metadata", "value": value}


def metadata() -> str:
    """References to the schemas in use, DMTF's where DMTF publishes them and ours where this service does, and the entity container."""
    references = [_reference(f"{dmtf.PUBLISHED}/{file}", namespace) for file, namespace in dmtf.schema_files()]
    own = [_reference(f"{dmtf.OWN}/{file}", namespace) for file, namespaces in dmtf.own_files().items() for namespace in namespaces]
    service = f"ServiceRoot.{dmtf.odata_type('ServiceRoot').split('.')[1]}.ServiceContainer"
    container = (
        '<edmx:DataServices><Schema xmlns="' + _EDM + '" Namespace="Service">'
        f'<EntityContainer Name="Service" Extends="{service}"/></Schema></edmx:DataServices>'
    )
    head = f'<?xml version="1.0" encoding="UTF-8"?><edmx:Edmx xmlns:edmx="{_EDMX}" Version="4.0">'
    return head + "".join(references + own) + container + "</edmx:Edmx>"


def _reference(uri: str, namespace: str) -> str:
    return f"<edmx:Reference Uri={quoteattr(uri)}><edmx:Include Namespace={quoteattr(namespace)}/></edmx:Reference>"


def own_schema(file: str) -> str:
    """A CSDL file of ours."""
    return (dmtf.folder() / "csdl" / file).read_text()


def documents(links: dict[str, str]) -> dict[str, Document]:
    """Every document by its path."""
    found = {
        "/redfish": Document("application/json", lambda: encode({"v1": "/redfish/v1/"})),
        "/redfish/v1/odata": Document("application/json", lambda: encode(service_document(links))),
        "/redfish/v1/$metadata": Document("application/xml", lambda: metadata().encode()),
    }
    found |= {f"{dmtf.OWN}/{file}": _schema(file) for file in dmtf.own_files()}
    files = [*sorted((dmtf.folder() / "json-schema").glob("*.json")), *dmtf.own_registries()]
    return found | {f"{dmtf.OWN}/{path.name}": _file(path) for path in files}


def _file(path: Path) -> Document:
    return Document("application/json", path.read_bytes)


def _schema(file: str) -> Document:
    return Document("application/xml", lambda: own_schema(file).encode())
