"""Ranges of clusters beside pools: what a cluster gives out itself is nobody else's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fabricmgr.domain.addresses import Prefix
from fabricmgr.domain.errors import RangeMeetsPool
from fabricmgr.domain.names import ClusterName
from fabricmgr.domain.pool import Purpose, collapse


@dataclass(frozen=True)
class ClusterRanges:
    """service: addresses that the API server gives to Services itself. pod: where the addresses of its pods lie."""

    cluster: ClusterName
    service: tuple[Prefix, ...] = ()
    pod: tuple[Prefix, ...] = ()


@dataclass(frozen=True)
class PooledPrefix:
    """A prefix of a pool. cluster: the only one that may use the pool; None: all."""

    pool: str
    cluster: ClusterName | None
    purpose: Purpose
    cidr: Prefix


def check(clusters: Iterable[ClusterRanges], prefixes: Sequence[PooledPrefix]) -> None:
    """No pool lies in the service range of a cluster, and none but its own, for pods, in its pod range. Raises RangeMeetsPool."""
    for each in clusters:
        for found in prefixes:
            own = found.purpose is Purpose.POD and found.cluster in (None, each.cluster)
            _check(each.cluster, "service", each.service, found)
            if not own:
                _check(each.cluster, "pod", each.pod, found)


def _check(cluster: ClusterName, kind: str, ranges: Iterable[Prefix], found: PooledPrefix) -> None:
    for each in ranges:
        if each.version == found.cidr.version and each.overlaps(found.cidr):
            raise RangeMeetsPool(cluster, kind, str(each), str(found.cidr), found.pool)


def merged(ranges: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """The same addresses in the fewest prefixes: those of nodes lie side by side."""
    return collapse(list(ranges))
