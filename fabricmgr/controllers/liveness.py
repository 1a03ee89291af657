"""Says which nodes have fallen silent, and which came back. It frees nothing: a node cut off for days keeps its pods' addresses."""

from datetime import datetime, timedelta

from fabricmgr.domain.events import NodeRecovered, NodeSuspected
from fabricmgr.loop import Outcome
from fabricmgr.store import liveness_rows
from fabricmgr.store.tx import Database, Tx
from fabricmgr.wire import HEARTBEAT_LAPSE

PERIOD = 5.0  # seconds
# Longer than a lapse of the heartbeat: that one only decides who may speak for a node, this one wakes people.
SILENT = timedelta(seconds=3 * HEARTBEAT_LAPSE)


async def look(database: Database, now: datetime) -> Outcome:
    """One pass."""

    async def use(tx: Tx) -> tuple[int, int]:
        silent = await liveness_rows.suspect(tx, now - SILENT)
        back = await liveness_rows.recover(tx, now - SILENT)
        for each in silent:
            tx.emit(NodeSuspected(each.cluster, each.node, int((now - each.seen_at).total_seconds())))
        for each in back:
            tx.emit(NodeRecovered(each.cluster, each.node))
        return len(silent), len(back)

    silent, back = await database.run(use)
    if not silent and not back:
        return Outcome.done("no node fell silent and none came back")
    return Outcome.done(f"{silent} nodes fell silent, {back} came back")
