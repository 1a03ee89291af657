"""Fills a manager's tree, so that the suites meet every kind of page: two nodes, pools of three purposes, fifty allocations, and on."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.conformance.runner import Target
from tests.support.client_issuer import Issuer
from tests.support.manager import enrolment, hello
from tests.support.serve_process import ServeProcess, managers
from tests.support.switch_rows import observe
from tests.support.workload_rows import follow

ADMIN = "conformance"
PASSWORD = "a password of its own 1"
NODES = ("n1", "n2")
POOLS = {
    "pods": {"purpose": "Pod", "prefixes": [{"prefix": "10.61.0.0/20"}, {"prefix": "2001:db8:61::/116"}]},
    "services": {"purpose": "Service", "prefixes": [{"prefix": "192.0.2.0/25", "central": True}]},
    "direct": {
        "purpose": "Node",
        "prefixes": [{"prefix": "198.51.100.0/24", "central": True}, {"prefix": "2001:db8:62::/120", "central": True}],
    },
}
ALLOCATIONS = 50
FABRIC = "/redfish/v1/Fabrics/ethernet"
SWITCH = "leaf-1"
PORT = f"{FABRIC}/Switches/{SWITCH}/Ports/Ethernet1-1"
NOWHERE = "https://127.0.0.1:9/events"
SETTINGS = (
    *("--lockout-attempts", "1000"),  # the suites log in wrongly on purpose
    *("--outbound-allow", "127.0.0.0/8"),  # and subscribe an address where nobody listens
    *("--log-format", "text"),
)


@contextmanager
def manager() -> Iterator[ServeProcess]:
    """A real one with its own Postgres, whose tree is filled."""
    with managers() as made:
        served = made.start(made.folder / "data", *SETTINGS).ready()
        with served.client() as client:
            fill(client, made.folder)
        observe(served, SWITCH, ports=8)
        follow(served)
        yield served


def target(served: ServeProcess) -> Target:
    """For the suites."""
    return Target(served.url, ADMIN, PASSWORD, served.data_dir / "ca.pem")


def fill(client: httpx2.Client, folder: Path) -> None:
    """client: an administrator's. folder: for the nodes' certificates."""
    posted(client, "/v1/accounts", {"name": ADMIN, "password": PASSWORD, "role": "Administrator"})
    for name, pool in POOLS.items():
        posted(client, "/v1/pools", {"name": name, **pool})
    posted(client, "/v1/pools/direct/reservations", {"prefix": "198.51.100.128/28", "reason": "printers"})
    posted(client, "/v1/clusters/default/networks", {"name": "podnet", "pools": ["pods"]})
    for number, name in enumerate(NODES):
        node(client, folder, name, number)
    owners = [{"owner": f"host-{number}", "families": [4]} for number in range(ALLOCATIONS)]
    outcomes = posted(client, "/v1/pools/direct/allocations", {"owners": owners}, 200)["items"]
    assert all(each.get("addresses") for each in outcomes), outcomes
    client_login(client)
    fabric(client)


def client_login(client: httpx2.Client) -> None:
    """A CA that names accounts, and a certificate of one account."""
    assert client.patch("/v1/client-login", json={"enabled": True}).status_code == 200
    posted(client, "/v1/client-authorities", {"certificate": Issuer("The Company").pem})
    posted(client, f"/v1/accounts/{ADMIN}/certificates", {"certificate": Issuer("itself").issue("whoever").pem})


def node(client: httpx2.Client, folder: Path, name: str, number: int) -> None:
    """A node whose agent has said hello, with the NIC it has."""
    added = posted(client, "/v1/clusters/default/nodes", {"name": name})
    own = f"203.0.113.{number + 10}"
    interface = {"name": "eth0", "mac": f"02:00:00:00:00:0{number + 1}", "mtu": 1500, "up": True, "addresses": [f"{own}/24"]}
    told = hello(f"machine-{name}") | {"addresses": [own], "interfaces": [interface]}
    trust = enrolled(client, folder / f"{name}.pem", added["token"], f"machine-{name}")
    with httpx2.Client(base_url=client.base_url, verify=trust, trust_env=False, timeout=30) as agent:
        posted(agent, "/v1/nodes/self/hello", told, 200)


def enrolled(client: httpx2.Client, path: Path, token: str, machine: str) -> ssl.SSLContext:
    """The TLS side of a node's agent. path: for its key and certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    given = posted(client, "/v1/enrol", enrolment(key, token, machine), 200)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    path.write_text(pem + given["certificate"])
    context = ssl.create_default_context(cadata=client.get("/v1/authorities").text)
    context.load_cert_chain(path)
    return context


def fabric(client: httpx2.Client) -> None:
    """A zone with named endpoints, a subscription, and a task, through Redfish itself."""
    named = [posted(client, f"{FABRIC}/Endpoints", endpoint(name)) for name in NODES]
    links = {
        "Endpoints": [{"@odata.id": each["@odata.id"]} for each in named],
        "AddressPools": [{"@odata.id": f"{FABRIC}/AddressPools/pods"}],
    }
    posted(client, f"{FABRIC}/Zones", {"Name": "rack-1", "ZoneType": "ZoneOfEndpoints", "Links": links})
    subscription = {"Destination": NOWHERE, "Protocol": "Redfish", "Context": "filled", "RegistryPrefixes": ["Fabric"]}
    posted(client, "/redfish/v1/EventService/Subscriptions", subscription)
    target = f"{FABRIC}/AddressPools/services/Actions/Oem/FabricMgrAddressPool.Expand"
    posted(client, target, {"Prefix": "192.0.2.128/25", "Central": True}, 202, Prefer="respond-async")


def endpoint(name: str) -> dict[str, Any]:
    """The body that makes one of a node's NIC."""
    nic = {"@odata.id": f"/redfish/v1/Systems/{name}/EthernetInterfaces/eth0"}
    entity = {"EntityType": "NetworkController", "EntityRole": "Both", "EntityLink": nic}
    return {"Name": f"{name}-uplink", "EndpointProtocol": "Ethernet", "ConnectedEntities": [entity]}


def posted(client: httpx2.Client, path: str, body: dict[str, Any], status: int = 201, **headers: str) -> dict[str, Any]:
    """What a POST that must succeed answers."""
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == status, f"{path}: {answer.status_code} {answer.text}"
    found: dict[str, Any] = answer.json()
    return found
