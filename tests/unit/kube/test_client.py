"""What a Client makes of an API server's answers. The server is one of the tests' own, on loopback."""

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fabricmgr.domain.errors import (
    ApiConflict,
    ApiRefused,
    ApiRejected,
    ApiTooMany,
    ApiTooOld,
    ApiUnauthorized,
    ApiUnreachable,
    ApiUntrusted,
    DestinationRefused,
    FabricError,
    KubeconfigRefused,
)
from fabricmgr.kube.client import Client, Expired, WatchEvent
from fabricmgr.kube.discovery import ServerVersion
from fabricmgr.kube.kube_events import KubeEvents
from fabricmgr.kube.kubeconfig import Access
from fabricmgr.kube.reflector import Change, Reflector
from fabricmgr.kube.transport import Address
from fabricmgr.kube.views import ATTACHMENT_DEFINITIONS, PODS, SERVICE_CIDRS, SERVICES, Pod
from fabricmgr.problems import sentence
from tests.support.issued import Wanted, alone
from tests.support.kube_api import Answer, KubeApi, client_of, event, failure, kube_api, listed, pod

ALL = "/api/v1/pods"
ONE = "/api/v1/namespaces/default/pods/a"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with kube_api() as made:
        yield made


@pytest.fixture
async def client(api: KubeApi) -> AsyncIterator[Client]:
    async with client_of(api) as made:
        yield made


async def watched(client: Client, silence: float = 5.0) -> list[WatchEvent[Pod]]:
    async with client.watch(PODS, "1", seconds=20, silence=silence) as events:
        return [each async for each in events]


async def test_a_list_goes_from_page_to_page(api: KubeApi, client: Client) -> None:
    api.says(f"GET {ALL}", listed(pod("a"), more="next"), listed(pod("b")))

    first = await client.list_page(PODS)
    second = await client.list_page(PODS, more=first.more)

    assert ([each.name for each in first.items], [each.name for each in second.items], second.more) == (["a"], ["b"], "")
    assert [each.query.get("continue") for each in api.asked] == [None, "next"]
    assert {each.headers["authorization"] for each in api.asked} == {"Bearer secret"}


async def test_fields_that_are_unknown_missing_or_null_stop_nothing(api: KubeApi, client: Client) -> None:
    found = pod("a", spec={"nodeName": "n", "inventedIn": {"2099": []}}, status={"podIPs": None, "conditions": None})
    found["metadata"] |= {"managedFields": [{"manager": "kubelet"}], "labels": None, "creationTimestamp": None, "ownerReferences": None}
    api.says(f"GET {ONE}", Answer(body=found))

    got = await client.get(PODS, "default", "a")

    assert got is not None
    assert (got.spec.node_name, got.addresses, dict(got.labels), got.metadata.owner) == ("n", (), {}, None)


async def test_what_is_not_there_is_none(client: Client) -> None:
    assert await client.get(PODS, "default", "a") is None


async def test_a_list_without_a_version_is_no_list(api: KubeApi, client: Client) -> None:
    api.says(f"GET {ALL}", listed(pod("a"), version=""))

    with pytest.raises(ApiUnreachable, match="no version"):
        await client.list_page(PODS)


async def test_a_watch_gives_events_and_asks_for_bookmarks(api: KubeApi, client: Client) -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
    api.says(f"GET {ALL}", Answer(lines=[event("ADDED", pod("a", "2")), bookmark]))

    found = await watched(client)

    assert [(each.kind, each.object.metadata.resource_version) for each in found] == [("ADDED", "2"), ("BOOKMARK", "9")]
    assert api.asked[0].query == {"watch": "1", "resourceVersion": "1", "allowWatchBookmarks": "true", "timeoutSeconds": "20"}


async def test_an_event_in_many_pieces_is_one(api: KubeApi, client: Client) -> None:
    api.says(
        f"GET {ALL}",
        Answer(lines=[b'{"type": "ADDED", "obj', b'ect": {"metadata": {"name": "a"}}}\n{"type"', b': "ADDED", "object": {}}\n']),
    )

    assert [each.object.name for each in await watched(client)] == ["a", ""]


@pytest.mark.parametrize(
    "answer",
    [
        failure(410, "Expired", "too old resource version"),
        Answer(lines=[event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})]),
        Answer(lines=[event("ERROR", {"kind": "Status", "code": 410, "reason": "Gone"})]),
    ],
)
async def test_a_forgotten_version_is_said_by_status_or_by_event(api: KubeApi, client: Client, answer: Answer) -> None:
    api.says(f"GET {ALL}", answer)

    with pytest.raises(Expired):
        await watched(client)


async def test_an_expired_page_is_said_to_be_so(api: KubeApi, client: Client) -> None:
    api.says(f"GET {ALL}", failure(410, "Expired", "The provided continue parameter is too old"))

    with pytest.raises(Expired):
        await client.list_page(PODS, more="old")


async def test_a_cut_watch_is_unreachable_and_half_a_line_is_no_event(api: KubeApi, client: Client) -> None:
    half = b'{"type": "DELETED", "object": {"metadata": {"name": "a"}}}'
    api.says(f"GET {ALL}", Answer(lines=[event("ADDED", pod("a")), half], then="cut"))
    seen: list[str] = []

    async def watch() -> None:
        async with client.watch(PODS, "1", seconds=20, silence=5) as events:
            async for each in events:
                seen.append(each.kind)  # noqa: PERF401 - what came before the cut counts

    with pytest.raises(ApiUnreachable):
        await watch()

    assert "DELETED" not in seen


async def test_a_silent_watch_is_noticed(api: KubeApi, client: Client) -> None:
    api.says(f"GET {ALL}", Answer(lines=[event("ADDED", pod("a"))], then="silence"))

    with pytest.raises(ApiUnreachable):
        await watched(client, silence=0.1)


async def test_a_token_that_changed_meanwhile_is_tried_once_more(api: KubeApi) -> None:
    tokens = iter(["old", "new"])
    api.says(f"GET {ONE}", failure(401, "Unauthorized", "Unauthorized"), Answer(body=pod("a")))

    async with client_of(api, Access(server=api.url, token=lambda: next(tokens))) as client:
        assert await client.get(PODS, "default", "a") is not None

    assert [each.headers["authorization"] for each in api.asked] == ["Bearer old", "Bearer new"]


async def test_a_token_that_stays_refused_is_tried_once(api: KubeApi, client: Client) -> None:
    api.says(f"GET {ONE}", failure(401, "Unauthorized", "Unauthorized"))

    with pytest.raises(ApiUnauthorized):
        await client.get(PODS, "default", "a")

    assert len(api.asked) == 1


async def test_a_forbidden_verb_is_named_with_its_resource(api: KubeApi, client: Client) -> None:
    api.says(f"GET {ALL}", failure(403, "Forbidden", 'pods is forbidden: User "x" cannot list resource "pods"'))

    with pytest.raises(ApiRefused) as refused:
        await client.list_page(PODS)

    assert (refused.value.verb, refused.value.resource) == ("list", "pods")
    assert "cannot list" in sentence(refused.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (failure(403, "Forbidden", "being terminated", causes=[{"reason": "NamespaceTerminating"}]), ApiRejected),
        (failure(422, "Invalid", "the server rejected our request"), ApiRejected),
        (failure(409, "Conflict", "the object has been modified"), ApiConflict),
        (failure(500, "InternalError", "etcd is away"), ApiUnreachable),
        (Answer(503, {"no": "status"}), ApiUnreachable),
        (Answer(302, headers={"Location": "http://127.0.0.1/"}), ApiUnreachable),
    ],
)
async def test_what_a_server_refuses_has_its_error(api: KubeApi, client: Client, answer: Answer, error: type[FabricError]) -> None:
    api.says("POST /api/v1/namespaces/default/pods", answer)

    with pytest.raises(error):
        await client.create(PODS, "default", {"metadata": {"name": "a"}})


async def test_a_busy_server_is_waited_for_as_it_says(api: KubeApi, client: Client) -> None:
    api.says(f"GET {ALL}", Answer(429, headers={"Retry-After": "7"}))

    with pytest.raises(ApiTooMany) as busy:
        await client.list_page(PODS)

    assert busy.value.retry_after == 7


async def test_an_answer_of_another_shape_is_no_crash(api: KubeApi, client: Client) -> None:
    api.says(f"GET {ONE}", Answer(body={"metadata": {"name": 7}}))

    with pytest.raises(ApiUnreachable, match="cannot be read as Pod"):
        await client.get(PODS, "default", "a")


async def test_apply_names_us_and_what_it_applies(api: KubeApi, client: Client) -> None:
    path = "/api/v1/namespaces/default/services/web/status"
    api.says(f"PATCH {path}", Answer(body={"metadata": {"name": "web"}}))

    await client.apply_status(SERVICES, "default", "web", {"loadBalancer": {}}, force=True)

    asked = api.asked[0]
    assert asked.query == {"fieldManager": "fabricmgr", "force": "true"}
    assert asked.headers["content-type"] == "application/apply-patch+yaml"
    assert asked.body == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "status": {"loadBalancer": {}},
    }


async def test_a_deletion_of_what_is_gone_is_done(client: Client) -> None:
    await client.delete(PODS, "default", "a")


async def test_a_foreign_certificate_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_text(alone(ec.generate_private_key(ec.SECP256R1()), Wanted(name="other")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")

    async with kube_api(context) as api, client_of(api) as client:
        with pytest.raises(ApiUntrusted):
            await client.version()

    assert api.asked == []


def test_an_authority_that_is_none_is_refused_at_once() -> None:
    async def nowhere(host: str, port: int) -> Address:
        raise DestinationRefused(f"{host}:{port}", "is nowhere")

    with pytest.raises(KubeconfigRefused):
        Client(Access("https://127.0.0.1", authority="-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"), nowhere)


async def test_the_outbound_policy_is_asked_before_anything_is_sent(api: KubeApi) -> None:
    async def refused(host: str, port: int) -> Address:
        raise DestinationRefused(host, "is not in an allowed network")

    client = Client(Access(server=api.url), refused)
    with pytest.raises(ApiUnreachable, match="outbound_allow"):
        await client.version()
    await client.close()

    assert api.asked == []


def test_a_server_that_is_too_old_is_named() -> None:
    with pytest.raises(ApiTooOld) as old:
        ServerVersion("1", "20", "v1.20.2").require()
    ServerVersion("1", "33+", "v1.33.1-gke").require()

    assert "v1.20.2" in sentence(old.value)


async def test_kinds_are_known_by_the_aggregated_discovery(api: KubeApi, client: Client) -> None:
    networking = {"metadata": {"name": "networking.k8s.io"}, "versions": [{"version": "v1", "resources": [{"resource": "servicecidrs"}]}]}
    core = {"versions": [{"version": "v1", "resources": [{"resource": "pods"}]}]}
    api.says("GET /api", Answer(body={"kind": "APIGroupDiscoveryList", "items": [core]}))
    api.says("GET /apis", Answer(body={"kind": "APIGroupDiscoveryList", "items": [networking]}))

    found = await client.discovery()

    assert [found.serves(kind) for kind in (PODS, SERVICE_CIDRS, ATTACHMENT_DEFINITIONS)] == [True, True, False]


async def test_kinds_of_a_server_that_does_not_aggregate_are_known_too(api: KubeApi, client: Client) -> None:
    api.says("GET /api", Answer(body={"kind": "APIVersions", "versions": ["v1"]}))
    api.says("GET /apis", Answer(body={"kind": "APIGroupList", "groups": [{"versions": [{"groupVersion": "k8s.cni.cncf.io/v1"}]}]}))
    api.says("GET /api/v1", Answer(body={"resources": [{"name": "pods"}]}))
    api.says("GET /apis/k8s.cni.cncf.io/v1", Answer(body={"resources": [{"name": "network-attachment-definitions"}]}))

    found = await client.discovery()

    assert [found.serves(kind) for kind in (PODS, SERVICE_CIDRS, ATTACHMENT_DEFINITIONS)] == [True, False, True]


async def test_fields_are_known_by_the_schema(api: KubeApi, client: Client) -> None:
    schema: dict[str, Any] = {
        "components": {"schemas": {"io.k8s.api.core.v1.LoadBalancerIngress": {"properties": {"ip": {}, "ipMode": {}}}}}
    }
    api.says("GET /openapi/v3/api/v1", Answer(body=schema))

    assert "ipMode" in await client.fields(SERVICES, "io.k8s.api.core.v1.LoadBalancerIngress")
    assert await client.fields(SERVICES, "io.k8s.api.core.v1.Unknown") == frozenset()


async def test_a_copy_survives_cut_silence_and_a_forgotten_version(api: KubeApi, client: Client) -> None:
    api.says(
        f"GET {ALL}",
        listed(pod("a"), more="p2"),
        listed(pod("b")),
        Answer(lines=[event("ADDED", pod("c", "2"))], then="cut"),
        Answer(lines=[event("ERROR", {"code": 410, "reason": "Expired"})]),
        listed(pod("b"), pod("d", "3"), version="3"),
        Answer(lines=[event("DELETED", pod("b", "4"))]),
    )
    seen: list[Change[Pod]] = []
    reflector = Reflector(client, PODS, seen.append, clock=lambda: NOW, chance=lambda: 0.0)

    for _ in range(3):
        await reflector.step()

    told = [(each.kind.value, each.object.name) for each in seen]
    assert told[:2] == [("added", "a"), ("added", "b")]
    assert sorted(each.name for each in reflector.store.values()) == ["d"]
    assert set(told) >= {("deleted", "a"), ("deleted", "b"), ("added", "d")}
    versions = [each.query.get("resourceVersion") for each in api.asked if "watch" in each.query]
    assert versions[0] == "1"
    assert versions[-1] == "3"


async def test_equal_events_are_one_that_counts(api: KubeApi, client: Client) -> None:
    about = Pod()
    api.says("POST /api/v1/namespaces/default/events", Answer(201, {"metadata": {"name": "e"}, "count": 1}))
    events = KubeEvents(client, "manager-1", lambda: NOW)
    assert await events.say(PODS, about, "Pending", "there is no pool")
    name = api.asked[0].body["metadata"]["name"]
    api.says(f"PATCH /api/v1/namespaces/default/events/{name}", Answer(body={"metadata": {"name": name}, "count": 2}))

    assert await events.say(PODS, about, "Pending", "there is no pool")

    assert [each.method for each in api.asked] == ["POST", "PATCH"]
    assert api.asked[1].body["count"] == 2


async def test_an_event_that_cannot_be_written_stops_nothing(api: KubeApi, client: Client) -> None:
    api.says("POST /api/v1/namespaces/default/events", failure(403, "Forbidden", "namespace is being terminated"))

    assert not await KubeEvents(client, "manager-1", lambda: NOW).say(PODS, Pod(), "Pending", "there is no pool", warning=True)
