"""What is sent to change a Service's state and a finalizer."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from fabricmgr.kube.client import Client
from fabricmgr.kube.objects import Condition, Meta
from fabricmgr.kube.views import SERVICES, Ingress, Service
from fabricmgr.kube.write import FINALIZER, add_finalizer, remove_finalizer, service_status
from tests.support.kube_api import Answer, KubeApi, client_of, kube_api

WEB = "/api/v1/namespaces/default/services/web"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNCHANGED = [
    {"op": "test", "path": "/metadata/uid", "value": "u"},
    {"op": "test", "path": "/metadata/resourceVersion", "value": "5"},
]


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with kube_api() as made:
        made.says(f"PATCH {WEB}", Answer(body={"metadata": {"name": "web"}}))
        made.says(f"PATCH {WEB}/status", Answer(body={"metadata": {"name": "web"}}))
        yield made


@pytest.fixture
async def client(api: KubeApi) -> AsyncIterator[Client]:
    async with client_of(api) as made:
        yield made


def web(*finalizers: str, deleting: bool = False) -> Service:
    gone = NOW if deleting else None
    return Service(
        metadata=Meta(
            name="web", namespace="default", uid="u", resource_version="5", finalizers=[*finalizers] or None, deletion_timestamp=gone
        )
    )


async def test_a_status_names_addresses_and_our_condition_alone(api: KubeApi, client: Client) -> None:
    condition = Condition(type="fabricmgr.io/Address", status="True", reason="Assigned", message="pool lb", last_transition_time=NOW)

    await service_status(client, "default", "web", [Ingress(ip="192.0.2.1", ip_mode="VIP"), Ingress(ip="2001:db8::1")], [condition])

    assert api.asked[0].body["status"] == {
        "loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"ip": "2001:db8::1"}]},
        "conditions": [
            {
                "type": "fabricmgr.io/Address",
                "status": "True",
                "reason": "Assigned",
                "message": "pool lb",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
    }


async def test_a_status_without_addresses_makes_it_pending_again(api: KubeApi, client: Client) -> None:
    await service_status(client, "default", "web", [])

    assert api.asked[0].body["status"] == {"loadBalancer": {}}


async def test_a_status_of_what_is_gone_is_none(api: KubeApi, client: Client) -> None:
    assert await service_status(client, "default", "other", []) is None
    assert len(api.asked) == 1


async def test_a_first_finalizer_makes_the_list(api: KubeApi, client: Client) -> None:
    assert await add_finalizer(client, SERVICES, web())

    assert api.asked[0].body == [*UNCHANGED, {"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}]
    assert api.asked[0].headers["content-type"] == "application/json-patch+json"


async def test_another_finalizer_is_put_behind_those_that_are_there(api: KubeApi, client: Client) -> None:
    assert await add_finalizer(client, SERVICES, web("theirs"))

    assert api.asked[0].body[2:] == [{"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER}]


@pytest.mark.parametrize("found", [web(FINALIZER), web(deleting=True)])
async def test_a_finalizer_that_is_there_or_comes_too_late_is_not_added(api: KubeApi, client: Client, found: Service) -> None:
    assert not await add_finalizer(client, SERVICES, found)

    assert api.asked == []


async def test_our_finalizer_alone_is_removed(api: KubeApi, client: Client) -> None:
    assert await remove_finalizer(client, SERVICES, web("theirs", FINALIZER, deleting=True))

    assert api.asked[0].body == [*UNCHANGED, {"op": "remove", "path": "/metadata/finalizers/1"}]


async def test_a_finalizer_that_is_not_there_is_not_removed(api: KubeApi, client: Client) -> None:
    assert not await remove_finalizer(client, SERVICES, web("theirs"))

    assert api.asked == []
