"""The whole story, as `make story` tells it."""

import time

from tests.support.kube.cluster import Cluster
from tests.support.kube.stage import stage
from tests.support.kube.story import CHAPTERS


def test_from_kubectl_apply_to_addresses_that_are_all_back(cluster: Cluster) -> None:
    began, told = time.monotonic(), list[str]()

    def say(sentence: str) -> None:
        told.append(sentence)
        print(f"[{time.monotonic() - began:6.1f} s] {sentence}")

    with stage(cluster, say) as story:
        story.tell()

    assert sum(each.startswith("\n") for each in told) == len(CHAPTERS)
