"""What the parent of all processes works out by itself."""

import pytest

from fabricmgr.app import controllers_process, supervisor
from fabricmgr.store import tx, writer

LEADER, LISTENERS, SUPERUSER = 1, 2, 3


@pytest.mark.parametrize("workers", [1, 2, 3, 64])
def test_the_embedded_postgres_has_a_connection_for_each_that_its_processes_may_open(workers: int) -> None:
    web = tx.CONNECTIONS + tx.LOOKING + writer.CONNECTIONS + 1
    controllers = controllers_process.CONNECTIONS + min(controllers_process.CONNECTIONS, tx.LOOKING) + LEADER + LISTENERS

    allowed = supervisor.OF_THE_OTHERS + supervisor.OF_A_WORKER * workers

    assert allowed >= web * workers + controllers + SUPERUSER + 4
