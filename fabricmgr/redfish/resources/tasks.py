"""TaskService, its tasks, and the monitors that answer as the request itself would have (DSP0266, 12)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.events import Json as Plain
from fabricmgr.domain.task import Request, Task, TaskDraft, TaskKind, TaskState
from fabricmgr.redfish import ids
from fabricmgr.redfish.body import Json
from fabricmgr.redfish.pages import page_of
from fabricmgr.redfish.resource import Accepted, Ask, Resource
from fabricmgr.services import tasks
from fabricmgr.web.responses import Answer, encode

SERVICE = "/redfish/v1/TaskService"
TASKS = f"{SERVICE}/Tasks"
MONITORS = f"{SERVICE}/TaskMonitors"
STATES = {
    TaskState.NEW: "New",
    TaskState.RUNNING: "Running",
    TaskState.CANCELLING: "Cancelling",
    TaskState.CANCELLED: "Cancelled",
    TaskState.COMPLETED: "Completed",
    TaskState.FAILED: "Exception",
}


@dataclass(frozen=True)
class Service:
    """kept: how long a task is shown after its end."""

    kept: timedelta


async def get_service(_ask: Ask) -> Service:
    return Service(tasks.KEPT)


def service_body(service: Service) -> Json:
    return {
        "Id": "TaskService",
        "Name": "Task service",
        "ServiceEnabled": True,
        "CompletedTaskOverWritePolicy": "Oldest",
        "LifeCycleEventOnTaskStateChange": True,
        "TaskAutoDeleteTimeoutMinutes": int(service.kept.total_seconds() // 60),
        "Status": {"State": "Enabled", "Health": "OK"},
        "Tasks": {"@odata.id": TASKS},
    }


async def get(ask: Ask) -> Task:
    async with ask.database.read() as tx:
        return await tasks.get(tx, ids.uuid_of(ask.params["task_id"], "task"))


async def get_monitor(ask: Ask) -> Task:
    """Raises NotFound also for one that was called off."""
    found = await get(ask)
    if found.state is TaskState.CANCELLED:
        raise NotFound("task monitor", str(found.id))
    return found


async def load(ask: Ask, wanted: Sequence[str]) -> Sequence[Task]:
    async with ask.database.read() as tx:
        return [await tasks.get(tx, ids.uuid_of(each, "task")) for each in wanted]


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    async with ask.database.read() as tx:
        found, total = await tasks.some(tx, skip, top)
    return [str(each.id) for each in found], total


def body(task: Task) -> Json:
    page: Json = {
        "Id": str(task.id),
        "Name": task.name,
        "TaskState": STATES[task.state],
        "TaskStatus": "Critical" if task.state is TaskState.FAILED else "OK",
        "PercentComplete": task.percent,
        "StartTime": (task.started_at or task.created_at).isoformat(timespec="seconds"),
        "Payload": _payload(task.request),
        "Messages": _messages(task),
    }
    if task.state is not TaskState.CANCELLED:
        page["TaskMonitor"] = f"{MONITORS}/{task.id}"
    return page if task.ended_at is None else {**page, "EndTime": task.ended_at.isoformat(timespec="seconds")}


def _payload(request: Request) -> Json:
    shown = {"HttpOperation": request.method, "TargetUri": request.uri}
    return {**shown, "JsonBody": request.body} if request.body else shown


def _messages(task: Task) -> list[Plain]:
    """What a failed one was refused with."""
    error = None if task.result is None or task.result.body is None else task.result.body.get("error")
    found = error.get("@Message.ExtendedInfo") if isinstance(error, dict) else None
    return found if isinstance(found, list) else []


async def delete(ask: Ask, task: Task, _version: int | None) -> None:
    """One that has not ended is called off before its next step."""
    await ask.database.run(lambda tx: tasks.remove(tx, task.id, ask.principal.actor, ask.now))


def answer(ask: Ask, task: Task) -> Answer:
    """Of a monitor: 202 until the task has ended, then what the request would have been answered with."""
    if not task.state.ended:
        page = page_of(task_resource, f"{TASKS}/{task.id}", task)
        return Answer(202, encode(page), ((b"location", ask.uri.encode()), (b"retry-after", b"1")))
    if task.result is None or task.result.body is None:
        return Answer(204)
    return Answer(task.result.status, encode(task.result.body))


async def later(ask: Ask, kind: TaskKind, name: str, arguments: Mapping[str, Plain], request: Request) -> Accepted:
    """Have it done without waiting."""
    draft = TaskDraft(kind, name, arguments, request)
    made = await ask.database.run(lambda tx: tasks.create(tx, draft, uuid4(), ask.principal.actor, ask.now))
    return Accepted(f"{MONITORS}/{made.id}", page_of(task_resource, f"{TASKS}/{made.id}", made))


def posted(uri: str, given: Json) -> Request:
    """An action as the client sent it."""
    return Request("POST", uri, json.dumps(given))


task_service = Resource(schema="TaskService", uri="/redfish/v1/TaskService", get=get_service, body=service_body)
task_resource = Resource(
    schema="Task",
    uri="/redfish/v1/TaskService/Tasks/{task_id}",
    get=get,
    body=body,
    members=members,
    load=load,
    collection_name="Tasks",
    delete=delete,
)
task_monitor = Resource(
    schema="Task",
    uri="/redfish/v1/TaskService/TaskMonitors/{task_id}",
    get=get_monitor,
    body=body,
    answers=answer,
    delete=delete,
)
