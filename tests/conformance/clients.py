"""What a program does with a Python client of Redfish, in the tools' environment: `python -m tests.conformance.clients CLIENT < job.json`.

Prints what it saw, as JSON. Each logs in, walks, reads a pool and a port, changes the pool, subscribes, and logs out."""

import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

Json = dict[str, Any]


def references(page: Any) -> Iterator[str]:
    """Every URI that a page refers to, by way of DSP0266's references and next links."""
    if isinstance(page, dict):
        for name, value in page.items():
            if name in ("@odata.id", "Members@odata.nextLink"):
                yield value
            else:
                yield from references(value)
    elif isinstance(page, list):
        for value in page:
            yield from references(value)


def by_redfish_library(job: Json) -> Json:
    """DMTF's own library."""
    made = import_module("redfish").redfish_client
    client = made(base_url=job["url"], username=job["user"], password=job["password"], cafile=job["authorities"])
    client.login(auth="session")
    seen = _walked(client, "/redfish/v1/")
    pool, port = client.get(job["pool"]), client.get(job["port"])
    changed = client.patch(job["pool"], body=job["change"], headers={"If-Match": pool.getheader("ETag")})
    stale = client.patch(job["pool"], body=job["change"], headers={"If-Match": pool.getheader("ETag")})
    made_one = client.post(job["subscriptions"], body=job["subscription"])
    removed = client.delete(made_one.getheader("Location"))
    session = client.get_session_location()
    client.logout()
    return {
        "pages": len(seen),
        "unanswered": {uri: status for uri, status in seen.items() if status != 200},
        "pool": pool.dict,
        "port": port.dict,
        "changed": changed.status,
        "stale": stale.status,
        "subscribed": made_one.status,
        "removed": removed.status,
        "session": session,
    }


def _walked(client: Any, start: str) -> dict[str, int]:
    """The status of each page that can be reached, by URI."""
    seen: dict[str, int] = {}
    waiting = [start]
    while waiting:
        uri = waiting.pop().partition("#")[0]
        if uri in seen:
            continue
        answer = client.get(uri)
        seen[uri] = answer.status
        waiting += references(answer.dict)
    return seen


def by_sushy(job: Json) -> Json:
    """OpenStack's library."""
    root = import_module("sushy").Sushy(job["url"], username=job["user"], password=job["password"], verify=job["authorities"])
    connection = root._conn
    (fabric,) = root.get_fabric_collection().get_members()
    pool = connection.get(job["pool"])
    changed = connection.patch(job["pool"], data=job["change"], etag=pool.headers["ETag"])
    events = root.get_event_service()
    subscription = events.subscriptions.create(job["subscription"])
    context = subscription.context
    subscription.delete()
    sessions = root.get_session_service().sessions
    key = root._auth._session_resource_id
    found: Json = {
        "product": root.product,
        "features": root.protocol_features_supported.filter_query,
        "fabric": fabric.identity,
        "systems": sorted(each.identity for each in root.get_system_collection().get_members()),
        "managers": [each.identity for each in root.get_manager_collection().get_members()],
        "chassis": sorted(each.identity for each in root.get_chassis_collection().get_members()),
        "endpoints": len(fabric.endpoints.get_members()),
        "pool": pool.json(),
        "port": connection.get(job["port"]).json(),
        "changed": changed.status_code,
        "context": context,
        "sessions": len(sessions.get_members()),
        "session": key,
    }
    root._auth.close()
    return found


CLIENTS: dict[str, Callable[[Json], Json]] = {"redfish": by_redfish_library, "sushy": by_sushy}


if __name__ == "__main__":
    print(json.dumps(CLIENTS[sys.argv[1]](json.load(sys.stdin))))
