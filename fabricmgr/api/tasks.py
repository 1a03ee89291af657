"""/v1/tasks: what was asked for without waiting (Redfish: `Prefer: respond-async`), how far it is, and calling it off."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Response

from fabricmgr.api.framework import View
from fabricmgr.api.parts import Called, Paging, gone
from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.task import Task
from fabricmgr.services import tasks

router = APIRouter(tags=["tasks"])


class TaskView(View):
    """percent: of its steps. status: of the answer that the client would have got, once it ended. error: why it failed."""

    id: UUID
    name: str
    kind: str
    state: str
    percent: int
    by: str
    status: int | None
    error: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    version: int

    @classmethod
    def of(cls, found: Task) -> "TaskView":
        return cls(
            id=found.id,
            name=found.name,
            kind=found.kind.value,
            state=found.state.value,
            percent=found.percent,
            by=found.by,
            status=None if found.result is None else found.result.status,
            error=found.error,
            created_at=found.created_at,
            started_at=found.started_at,
            ended_at=found.ended_at,
            version=found.version,
        )


class TaskPage(View):
    items: list[TaskView]
    next: str | None


@router.get("/v1/tasks", response_model=TaskPage)
async def list_tasks(call: Called, page: Paging) -> Response:
    """All tasks, the newest first."""
    found = await call.read(lambda tx: tasks.list_all(tx, page))
    return call.shown(TaskPage(items=[TaskView.of(each) for each in found.items], next=found.next))


@router.get("/v1/tasks/{task}", response_model=TaskView)
async def show_task(call: Called, task: str) -> Response:
    """One task."""
    found = await call.read(lambda tx: tasks.get(tx, _id(task)))
    return call.shown(TaskView.of(found), found.version)


@router.delete("/v1/tasks/{task}", status_code=204)
async def cancel_task(call: Called, task: str) -> Response:
    """Call it off before its next step; what is done stays done. One that has ended is forgotten."""
    await call.run(lambda tx: tasks.remove(tx, _id(task), call.by, call.now))
    return gone()


def _id(text: str) -> UUID:
    """What is no id names no task."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("task", text) from None
