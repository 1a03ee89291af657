"""Pods' addresses as their API server shows them beside those that we hold: what differs is told once, and asked of the node again.

The kernel is evidence: neither side is corrected from here. The node's agent holds its journal against its kernel and says hello; what it
finds sets our copy right, and a link that carries an address keeps it. kubelet mends its own side. A list of Kubernetes frees nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fabricmgr.domain.pod_addresses import Mismatch, due
from fabricmgr.store import node_rows, pod_address_rows, workload_rows
from fabricmgr.store.tx import Tx
from fabricmgr.store.workload_rows import Key

KIND = "PodAddress"


@dataclass(frozen=True)
class Compared:
    """since: of all that differs now, for the next comparison. told: what was told by this one."""

    since: Mapping[Mismatch, datetime]
    told: Sequence[Mismatch]


async def compare(tx: Tx, cluster_id: int, cluster: str, since: Mapping[Mismatch, datetime], now: datetime) -> Compared:
    """One comparison, both ways. Static pods get the UID that the API server knows them by."""
    await pod_address_rows.name_mirrors(tx, cluster_id)
    known, long_enough = due(await pod_address_rows.mismatches(tx, cluster_id), since, await pod_address_rows.trails(tx, cluster_id), now)
    remembered = {key for key in await workload_rows.keys(tx, cluster_id) if key.kind == KIND}
    for key in remembered - {_key(each) for each in known}:
        await workload_rows.delete(tx, cluster_id, key)
    told = [each for each in long_enough if _key(each) not in remembered]
    for each in told:
        tx.emit(each.event(cluster))
        await workload_rows.put(tx, cluster_id, _key(each), "", each.to_json(), now)
    await _ask(tx, cluster_id, told)
    return Compared(known, told)


def _key(found: Mismatch) -> Key:
    return Key(KIND, found.namespace, f"{found.pod} {found.what.value} {found.address}")


async def _ask(tx: Tx, cluster_id: int, told: Iterable[Mismatch]) -> None:
    """The nodes concerned, and those that hold what they should not."""
    names = {each.node for each in told} | {each.holder.rpartition(" of node ")[2] for each in told}
    if names:
        ids = [each.id for each in await node_rows.of_cluster(tx, cluster_id) if each.name in names]
        if await node_rows.look_again(tx, ids):
            tx.wake()
