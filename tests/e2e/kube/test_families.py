"""Clusters of one family: API server, Services, nodes and pods have that one alone."""

from ipaddress import ip_address

import pytest

from tests.support.kube import objects
from tests.support.kube.cluster import addresses, cluster
from tests.support.kube.options import Options


@pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
def test_pods_of_a_cluster_of_one_family_reach_each_other_across_nodes(family: int) -> None:
    with cluster(Options(families=(family,))) as made:
        made.apply(objects.deployment("single", 2))

        here, there = made.rolled_out("single")

        assert [ip_address(each).version for pod in (here, there) for each in addresses(pod)] == [family, family]
        assert made.ping(here, addresses(there)[0])
        assert made.curl(here, addresses(there)[0]) == there["metadata"]["name"]
