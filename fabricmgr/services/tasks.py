"""Tasks: work that a client does not wait for. Each step and its mark in the task's row are one transaction, so that whoever works on
after a crash goes on where it was."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from fabricmgr.domain.addresses import parse_prefix
from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.events import TaskCancelled, TaskCompleted, TaskCreated, TaskFailed
from fabricmgr.domain.names import cluster_name, node_name, pool_name
from fabricmgr.domain.page import Page, Paged
from fabricmgr.domain.pool import PrefixDraft
from fabricmgr.domain.task import Task, TaskDraft, TaskKind, TaskResult, TaskState
from fabricmgr.services import nodes, pools
from fabricmgr.store import task_rows
from fabricmgr.store.tx import Tx

KEPT = timedelta(days=1)  # after its end
Step = Callable[[Tx, Task, datetime], Awaitable[None]]


async def create(tx: Tx, draft: TaskDraft, task_id: UUID, by: str, now: datetime) -> Task:
    """To be done soon, by whichever replica leads."""
    await task_rows.insert(tx, task_id, draft, by, now)
    tx.emit(TaskCreated(str(task_id), draft.name, by))
    return await get(tx, task_id)


async def get(tx: Tx, task_id: UUID) -> Task:
    """Raises NotFound."""
    return _there(await task_rows.find(tx, task_id), task_id)


async def some(tx: Tx, skip: int, top: int | None) -> tuple[list[Task], int]:
    """Newest first; and how many there are."""
    return await task_rows.some(tx, skip, top)


async def list_all(tx: Tx, page: Page) -> Paged[Task]:
    """Newest first. Raises Invalid for an `after` that no page gave."""
    return await task_rows.page(tx, page)


async def remove(tx: Tx, task_id: UUID, by: str, now: datetime) -> None:
    """One that ended is forgotten; one that has not is called off before its next step, and what is done stays done. Raises NotFound."""
    found = _there(await task_rows.find(tx, task_id, lock=True), task_id)
    if found.state.ended:
        await task_rows.delete(tx, task_id)
    elif found.state is TaskState.NEW:
        await _end(tx, found, TaskState.CANCELLED, None, now)
        tx.emit(TaskCancelled(str(task_id), found.name, by))
    else:
        await task_rows.change(tx, task_id, state=TaskState.CANCELLING.value)


async def next_open(tx: Tx) -> Task | None:
    """The oldest that has not ended."""
    return await task_rows.oldest_open(tx)


async def advance(tx: Tx, task_id: UUID, now: datetime) -> None:
    """Do its next step, or call it off; nothing, where it has ended. Raises what the step raises: then `fail` it."""
    found = await task_rows.find(tx, task_id, lock=True)
    if found is None or found.state.ended:
        return
    if found.state is TaskState.CANCELLING:
        await _end(tx, found, TaskState.CANCELLED, None, now)
        tx.emit(TaskCancelled(str(found.id), found.name, found.by))
        return
    steps = STEPS[found.kind]
    place = found.percent * len(steps) // 100
    await steps[place](tx, found, now)
    if place + 1 == len(steps):
        await _end(tx, found, TaskState.COMPLETED, TaskResult(204), now)
        tx.emit(TaskCompleted(str(found.id), found.name, found.by))
    else:
        started = {"state": TaskState.RUNNING.value, "started_at": found.started_at or now}
        await task_rows.change(tx, found.id, percent=-(-100 * (place + 1) // len(steps)), **started)


async def fail(tx: Tx, task_id: UUID, result: TaskResult, now: datetime) -> None:
    """A step cannot be done: what was done before it stays."""
    found = _there(await task_rows.find(tx, task_id, lock=True), task_id)
    await _end(tx, found, TaskState.FAILED, result, now)
    tx.emit(TaskFailed(str(task_id), found.name, found.by))


async def forget_old(tx: Tx, now: datetime) -> int:
    """Tasks that ended long ago."""
    return await task_rows.forget_ended_before(tx, now - KEPT)


async def _end(tx: Tx, found: Task, state: TaskState, result: TaskResult | None, now: datetime) -> None:
    shown = None if result is None else {"status": result.status, "body": result.body}
    done = {"percent": 100} if state is TaskState.COMPLETED else {}
    await task_rows.change(tx, found.id, state=state.value, result=shown, started_at=found.started_at or now, ended_at=now, **done)


def _there(found: Task | None, task_id: UUID) -> Task:
    if found is None:
        raise NotFound("task", str(task_id))
    return found


async def _give_up(tx: Tx, task: Task, now: datetime) -> None:
    await nodes.declare_gone(tx, cluster_name(_text(task, "cluster")), node_name(_text(task, "node")), task.by, now, "removed")


async def _remove_node(tx: Tx, task: Task, now: datetime) -> None:
    await nodes.remove(tx, cluster_name(_text(task, "cluster")), node_name(_text(task, "node")), task.by, now)


async def _delete_pool(tx: Tx, task: Task, now: datetime) -> None:
    await pools.delete(tx, pool_name(_text(task, "pool")), None, task.by, now)


async def _expand_pool(tx: Tx, task: Task, now: datetime) -> None:
    length, central = task.arguments.get("block_length"), task.arguments.get("central")
    draft = PrefixDraft(parse_prefix(_text(task, "prefix"), "Prefix"), length if isinstance(length, int) else None, central is True)
    await pools.add_prefix(tx, pool_name(_text(task, "pool")), draft, task.by, now)


def _text(task: Task, name: str) -> str:
    return str(task.arguments[name])


STEPS: Mapping[TaskKind, Sequence[Step]] = {
    TaskKind.REMOVE_NODE: (_give_up, _remove_node),
    TaskKind.DELETE_POOL: (_delete_pool,),
    TaskKind.EXPAND_POOL: (_expand_pool,),
}
