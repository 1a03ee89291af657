"""Tasks by Redfish: 202, the monitor, the result, calling one off, and a manager that ends between two steps."""

from datetime import timedelta
from functools import partial
from uuid import UUID

import httpx2
import pytest

from fabricmgr.controllers import tasks as controller
from fabricmgr.domain.names import DEFAULT_CLUSTER, NodeName
from fabricmgr.services import clusters, nodes, tasks
from fabricmgr.store.tx import Database, Tx
from tests.integration.test_redfish import PODS, POOLS, as_boss, message_of, service
from tests.support.database import NOW, opened
from tests.support.rows import insert_allocation, insert_block, insert_node

LATER = {"Prefer": "respond-async"}
TASKS = "/redfish/v1/TaskService/Tasks"
NODE = "/redfish/v1/Systems/n1"
EXPAND = f"{POOLS}/pods/Actions/Oem/FabricMgrAddressPool.Expand"


async def node_with_pods(database: Database, count: int) -> None:
    """n1, with a block of which some addresses are held."""

    async def rows(tx: Tx) -> None:
        cluster = (await clusters.ensure_default(tx, NOW)).id
        node = await insert_node(tx, cluster, "n1", state="enrolled")
        for number in range(count):
            block, place = divmod(number, 50)
            if place == 0:
                await insert_block(
                    tx, f"10.1.8.{64 * block}/26" if block < 4 else f"10.1.9.{64 * (block - 4)}/26", "confirmed", node, claim=1
                )
            address = f"10.1.{8 + block // 4}.{64 * (block % 4) + 2 + place}"
            await insert_allocation(tx, address, node_id=node, cluster_id=cluster, network="pods", container_id=f"c{number}", ifname="eth0")

    await database.run(rows)


async def made(client: httpx2.AsyncClient) -> str:
    """The monitor of a task that removes n1."""
    answer = await client.delete(NODE, headers=LATER)
    assert answer.status_code == 202, answer.text
    location: str = answer.headers["location"]
    return location


async def step(database: Database, monitor: str) -> None:
    """One step of a task."""
    await database.run(partial(tasks.advance, task_id=UUID(monitor.rpartition("/")[2]), now=NOW))


async def test_a_node_is_removed_while_nobody_waits_and_the_monitor_tells_how_it_ended(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await node_with_pods(database, 30)

        monitor = await made(client)
        waiting = await client.get(monitor)
        await controller.work(database, NOW)
        ended = await client.get(monitor)
        task = (await client.get(f"{TASKS}/{monitor.rpartition('/')[2]}")).json()
        gone = await client.get(NODE)

    assert (waiting.status_code, waiting.json()["TaskState"], waiting.headers["location"]) == (202, "New", monitor)
    assert (ended.status_code, ended.content) == (204, b"")
    assert (task["TaskState"], task["PercentComplete"], task["TaskStatus"]) == ("Completed", 100, "OK")
    assert task["Payload"] == {"HttpOperation": "DELETE", "TargetUri": NODE}
    assert gone.status_code == 404


async def test_another_manager_goes_on_where_one_ended(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await node_with_pods(database, 3)
        monitor = await made(client)

        await step(database, monitor)  # then that manager is killed
        between = (await client.get(monitor)).json()
        async with database.read() as tx:
            node = await nodes.get(tx, DEFAULT_CLUSTER, NodeName("n1"))
        await controller.work(database, NOW)
        ended = await client.get(monitor)

    assert (between["TaskState"], between["PercentComplete"]) == ("Running", 50)
    assert node.state.value == "gone"
    assert ended.status_code == 204


async def test_a_task_that_is_called_off_does_no_further_step(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await node_with_pods(database, 3)
        untouched, begun = await made(client), await made(client)

        first = await client.delete(untouched)
        await step(database, begun)
        second = await client.delete(begun)
        cancelling = (await client.get(begun)).json()["TaskState"]
        await controller.work(database, NOW)
        monitors = [(await client.get(each)).status_code for each in (untouched, begun)]
        shown = [each["TaskState"] for each in (await client.get(f"{TASKS}?$expand=.")).json()["Members"]]
        node = await client.get(NODE)

    assert (first.status_code, second.status_code) == (204, 204)
    assert cancelling == "Cancelling"
    assert monitors == [404, 404]
    assert shown == ["Cancelled", "Cancelled"]
    assert node.json()["Status"]["State"] == "Disabled"


async def test_a_task_that_is_refused_answers_as_the_request_would_have(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await node_with_pods(database, 3)

        held = (await client.delete(f"{POOLS}/pods", headers=LATER)).headers["location"]
        overlapping = (await client.post(EXPAND, json={"Prefix": "10.1.4.0/24"}, headers=LATER)).headers["location"]
        fine = (await client.post(EXPAND, json={"Prefix": "10.9.0.0/24"}, headers=LATER)).headers["location"]
        await controller.work(database, NOW)
        ends = [await client.get(each) for each in (held, overlapping, fine)]
        failed = (await client.get(f"{TASKS}/{held.rpartition('/')[2]}")).json()

    assert [each.status_code for each in ends] == [409, 409, 204]
    assert (message_of(ends[0]), message_of(ends[1])) == ("ResourceInUse", "PropertyValueResourceConflict")
    assert (failed["TaskState"], failed["TaskStatus"]) == ("Exception", "Critical")
    assert failed["Messages"][0]["MessageId"].endswith("ResourceInUse")


async def test_a_node_with_many_addresses_is_removed_later_though_nobody_asked_for_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await node_with_pods(database, 30)
        monkeypatch.setattr("fabricmgr.redfish.resources.systems.MOST_AT_ONCE", 29)

        answer = await client.delete(NODE)

    assert answer.status_code == 202
    assert answer.json()["TaskState"] == "New"


async def test_a_node_with_few_addresses_is_removed_at_once(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        await node_with_pods(database, 3)

        removed = await client.delete(NODE)
        allocations = (await client.get(f"{POOLS}/pods/Oem/FabricMgr/Allocations")).json()

    assert removed.status_code == 204
    assert allocations["Members@odata.count"] == 0


async def test_tasks_are_forgotten_a_day_after_their_end_or_when_deleted(database_url: str) -> None:
    async with service(database_url) as client, opened(database_url) as database:
        await as_boss(client)
        await client.post(POOLS, json=PODS)
        for number in range(2):
            await client.post(EXPAND, json={"Prefix": f"10.9.{number}.0/24"}, headers=LATER)
        await controller.work(database, NOW)
        first, second = [each["@odata.id"] for each in (await client.get(TASKS)).json()["Members"]]

        deleted = await client.delete(first)
        early = await controller.forget(database, NOW + tasks.KEPT - timedelta(seconds=1))
        outcome = await controller.forget(database, NOW + tasks.KEPT + timedelta(seconds=1))

        assert deleted.status_code == 204
        assert (early.sentence, outcome.sentence) == ("no task is old enough to forget", "forgot 1 tasks")
        assert [(await client.get(each)).status_code for each in (first, second)] == [404, 404]
