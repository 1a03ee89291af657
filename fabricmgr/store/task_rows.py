"""Rows of tasks."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select

from fabricmgr.domain.task import Request, Task, TaskDraft, TaskKind, TaskResult, TaskState
from fabricmgr.store.tables import task
from fabricmgr.store.tx import Tx


async def insert(tx: Tx, task_id: UUID, draft: TaskDraft, by: str, now: datetime) -> None:
    row = {"id": task_id, "kind": draft.kind.value, "name": draft.name, "arguments": dict(draft.arguments)}
    await tx.change(task.insert(), row | {"request": vars(draft.request), "asked_by": by, "created_at": now})


async def find(tx: Tx, task_id: UUID, *, lock: bool = False) -> Task | None:
    asked = select(task).where(task.c.id == task_id)
    row = await tx.first(asked.with_for_update() if lock else asked)
    return None if row is None else _task(row)


async def some(tx: Tx, skip: int, top: int | None) -> tuple[list[Task], int]:
    """Newest first, from the `skip`th on; and how many there are."""
    total = int(await tx.value(select(func.count()).select_from(task)))
    asked = select(task).order_by(task.c.created_at.desc(), task.c.id).offset(skip).limit(top)
    return [_task(row) for row in await tx.all(asked)], total


async def oldest_open(tx: Tx) -> Task | None:
    """The oldest that has not ended."""
    row = await tx.first(select(task).where(task.c.ended_at.is_(None)).order_by(task.c.created_at, task.c.id).limit(1))
    return None if row is None else _task(row)


async def change(tx: Tx, task_id: UUID, **values: object) -> None:
    """Its version grows."""
    await tx.change(task.update().where(task.c.id == task_id).values(version=task.c.version + 1, **values))


async def delete(tx: Tx, task_id: UUID) -> None:
    await tx.change(task.delete().where(task.c.id == task_id))


async def forget_ended_before(tx: Tx, before: datetime) -> int:
    """How many there were."""
    return await tx.change(task.delete().where(task.c.ended_at < before))


def _task(row: Row[Any]) -> Task:
    return Task(
        id=row.id,
        kind=TaskKind(row.kind),
        name=row.name,
        arguments=row.arguments,
        request=Request(**row.request),
        by=row.asked_by,
        state=TaskState(row.state),
        percent=row.percent,
        result=None if row.result is None else TaskResult(row.result["status"], row.result["body"]),
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        version=row.version,
    )
