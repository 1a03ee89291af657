"""What of an object's fields counts: brought to the one form that transitions are worked out from."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from fabricmgr.controllers.workloads import daemon_set, deployment, spare, stateful_set, unschedulable
from fabricmgr.kube.views import DaemonSet, Deployment, Pod, StatefulSet


def made(kind: Any, **parts: Any) -> Any:
    return msgspec.convert({"metadata": {"uid": "u", "generation": 2, **parts.pop("metadata", {})}, **parts}, kind)


def test_a_deployments_counts_come_first_and_conditions_for_what_they_do_not_tell() -> None:
    found = deployment(
        made(
            Deployment,
            metadata={"annotations": {"deployment.kubernetes.io/revision": "7"}},
            spec={"replicas": 4, "strategy": {"rollingUpdate": {"maxUnavailable": 1}}, "progressDeadlineSeconds": 60},
            status={
                "observedGeneration": 2,
                "replicas": 5,
                "updatedReplicas": 2,
                "availableReplicas": 3,
                "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
                    {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"},
                ],
            },
        ),
        {},
    )

    assert (found.current, found.revision, found.wanted, found.updated, found.available, found.old) == (True, "7", 4, 2, 3, 3)
    assert (found.spare, found.exceeded, found.deadline, found.failure) == (1, True, timedelta(seconds=60), "exceeded quota")


def test_a_status_of_an_older_generation_is_not_current_and_no_number_of_replicas_is_one() -> None:
    found = deployment(made(Deployment, status={"observedGeneration": 1}), {})

    assert (found.current, found.wanted, found.revision) == (False, 1, "")


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [(None, 10, 2), (None, 3, 0), ("50%", 3, 1), (2, 10, 2), (99, 3, 3), ("0", 3, 0), ("x%", 3, 0), ("100%", 3, 3)],
)
def test_a_share_that_may_be_unavailable_is_rounded_down(given: int | str | None, wanted: int, expected: int) -> None:
    assert spare(given, wanted) == expected


def test_one_that_ends_old_replicas_first_may_have_none() -> None:
    found = deployment(made(Deployment, spec={"replicas": 3, "strategy": {"type": "Recreate"}}), {})

    assert found.spare == 3


def test_a_stateful_set_rolls_while_its_revisions_differ() -> None:
    status = {
        "observedGeneration": 2,
        "replicas": 3,
        "updatedReplicas": 1,
        "availableReplicas": 3,
        "currentRevision": "a",
        "updateRevision": "b",
    }
    rolling = stateful_set(made(StatefulSet, spec={"replicas": 3}, status=status), {})
    steady = stateful_set(made(StatefulSet, spec={"replicas": 3}, status=status | {"currentRevision": "b"}), {})

    assert (rolling.revision, rolling.updated, rolling.old, rolling.finished) == ("b", 1, 2, False)
    assert (steady.updated, steady.old, steady.finished) == (3, 0, True)


def test_a_daemon_set_wants_a_pod_on_each_node_it_may_run_on() -> None:
    status = {
        "observedGeneration": 2,
        "desiredNumberScheduled": 3,
        "currentNumberScheduled": 3,
        "updatedNumberScheduled": 2,
        "numberAvailable": 3,
    }
    found = daemon_set(made(DaemonSet, status=status), {})

    assert (found.wanted, found.updated, found.available, found.old) == (3, 2, 3, 1)


def test_only_a_pod_that_finds_no_node_and_stays_says_why() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}

    assert unschedulable(made(Pod, status={"conditions": [condition]})) == "0/2 nodes"
    assert unschedulable(made(Pod, status={"conditions": [condition | {"reason": "SchedulingGated"}]})) is None
    assert unschedulable(made(Pod, metadata={"deletionTimestamp": "2026-03-01T12:00:00Z"}, status={"conditions": [condition]})) is None
    assert unschedulable(made(Pod, status={})) is None
