"""Clients of the clusters' API servers, one for each access that is in force."""

import asyncio
import os
from dataclasses import dataclass, field

from fabricmgr.domain.errors import NotFound
from fabricmgr.domain.names import ClusterName
from fabricmgr.kube import kubeconfig
from fabricmgr.kube.client import Client
from fabricmgr.kube.kubeconfig import Access
from fabricmgr.kube.transport import ANSWER, CONNECT, WHOLE, Dial
from fabricmgr.store import api_rows
from fabricmgr.store.api_rows import ApiRow
from fabricmgr.store.sealing import Sealer
from fabricmgr.store.tx import Database


def sealed_name(cluster: ClusterName) -> str:
    """Under which a cluster's kubeconfig is sealed."""
    return f"kubeconfig {cluster}"


def access(sealer: Sealer, row: ApiRow) -> Access:
    """Raises KubeconfigRefused, ApiUnreachable (not in the cluster after all), DatabaseUnsuitable (another master key)."""
    if row.sealed is None:
        return kubeconfig.in_cluster(os.environ)
    return kubeconfig.parse(sealer.open(sealed_name(row.cluster), row.sealed).decode())


@dataclass
class ClusterApis:
    """One for each process. dial: the outbound policy. farewell: seconds that a client is left to those who have it, after access changed:
    more than its longest call."""

    database: Database
    sealer: Sealer
    dial: Dial
    farewell: float = 2 * (CONNECT + ANSWER + WHOLE)
    _kept: dict[ClusterName, tuple[tuple[object, ...], Client]] = field(default_factory=dict)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _leaving: dict[Client, asyncio.Task[None]] = field(default_factory=dict)

    async def client(self, cluster: ClusterName) -> Client:
        """The same one until access changes. Raises NotFound for a cluster without an API server, and what `access` raises."""
        async with self.database.read() as tx:
            row = await api_rows.find(tx, cluster)
        if row is None:
            raise NotFound("API server of cluster", cluster)
        async with self._one:
            # The version alone begins again where access was forgotten and given anew.
            wanted = (row.cluster_id, row.version, row.server, row.sealed)
            former, client = self._kept.get(cluster, ((), None))
            if client is not None and former == wanted:
                return client
            made = Client(access(self.sealer, row), self.dial)
            self._kept[cluster] = (wanted, made)
            if client is not None:
                self._leaving[client] = asyncio.create_task(self._close_later(client), name=f"farewell to {client.server}")
            return made

    async def _close_later(self, client: Client) -> None:
        """Somebody may be in the middle of a call, or about to begin one."""
        await asyncio.sleep(self.farewell)
        del self._leaving[client]
        await client.close()

    async def close(self) -> None:
        """All of them, whoever uses them."""
        former = list(self._leaving.items())
        for _, task in former:
            task.cancel()
        await asyncio.gather(*(task for _, task in former), return_exceptions=True)
        for client in [client for client, _ in former] + [client for _, client in self._kept.values()]:
            await client.close()
        self._leaving.clear()
        self._kept.clear()
