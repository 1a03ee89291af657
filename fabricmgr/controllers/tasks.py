"""Tasks are done, a step at a time, oldest first; and forgotten a day after their end."""

from datetime import datetime
from functools import partial

from fabricmgr.domain.errors import FabricError
from fabricmgr.domain.task import TaskResult
from fabricmgr.loop import Outcome
from fabricmgr.problems import Kind, problem_of
from fabricmgr.redfish.errors import rendered
from fabricmgr.services import tasks
from fabricmgr.store.tx import Database

PERIOD = 1.0  # seconds: how long a client may wait for the first step
FORGET_PERIOD = 600.0  # seconds
_MOST = 100  # steps of one pass


async def work(database: Database, now: datetime) -> Outcome:
    """One pass: until none is left, or _MOST steps are done."""
    done = 0
    while done < _MOST and await _step(database, now):
        done += 1
    return Outcome.done(f"did {done} steps of tasks" if done else "no task to do")


async def forget(database: Database, now: datetime) -> Outcome:
    """Those that ended long ago."""
    forgotten = await database.run(partial(tasks.forget_old, now=now))
    return Outcome.done(f"forgot {forgotten} tasks" if forgotten else "no task is old enough to forget")


async def _step(database: Database, now: datetime) -> bool:
    """Whether there was one to do. Raises what another try may mend."""
    async with database.read() as tx:
        task = await tasks.next_open(tx)
    if task is None:
        return False
    try:
        await database.run(partial(tasks.advance, task_id=task.id, now=now))
    except FabricError as error:
        if problem_of(error).kind is Kind.TRANSIENT:
            raise
        status, body = rendered(error, task.request.uri)
        await database.run(partial(tasks.fail, task_id=task.id, result=TaskResult(status, body), now=now))
    return True
