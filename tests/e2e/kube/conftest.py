"""One cluster for all tests of the tier that do not ask for another kind."""

from collections.abc import Iterator

import pytest

from tests.support.kube.cluster import Cluster
from tests.support.kube.cluster import cluster as brought_up


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes, IPv4 and IPv6, kube-proxy in nftables mode, fabricmgr as the only pods' network. What a test makes it also deletes."""
    with brought_up() as made:
        yield made
