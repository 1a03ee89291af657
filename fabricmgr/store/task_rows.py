"""Rows of tasks."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, func, or_, select

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.page import Page, Paged
from fabricmgr.domain.task import Request, Task, TaskDraft, TaskKind, TaskResult, TaskState
from fabricmgr.domain.times import parse_instant
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


async def page(tx: Tx, wanted: Page) -> Paged[Task]:
    """Newest first. Raises Invalid."""
    asked = select(task).order_by(task.c.created_at.desc(), task.c.id).limit(wanted.limit + 1)
    if wanted.after is not None:
        at, last = _key(wanted.after)
        asked = asked.where(or_(task.c.created_at < at, and_(task.c.created_at == at, task.c.id > last)))
    return wanted.cut([_task(row) for row in await tx.all(asked)], lambda each: f"{each.created_at.isoformat()}_{each.id}")


def _key(after: str) -> tuple[datetime, UUID]:
    at, _, last = after.partition("_")
    try:
        return parse_instant(at), UUID(last)
    except (ValueError, Invalid):
        raise Invalid("after", after, "the `next` of the page before") from None


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
