"""A process that supervises one embedded Postgres and tells, a JSON object a line: `serve_postgres.py DATA_DIR [--pg-bin DIR] [--uid N]`.

Tests kill it, so it is a program of its own. It ends in order on SIGTERM.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from fabricmgr.domain.errors import DatabaseUnavailable, DatabaseUnsuitable
from fabricmgr.store.embedded import EmbeddedPostgres


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--pg-bin", type=Path)
    parser.add_argument("--uid", type=int)
    given = parser.parse_args()
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    server = EmbeddedPostgres(given.data_dir, pg_bin=given.pg_bin, uid=given.uid, report=lambda sentence: tell(said=sentence))
    try:
        server.start()
        server.wait_ready()
    except DatabaseUnsuitable as error:
        tell(failed=error.reason, remedy=error.remedy)
        return 2
    except DatabaseUnavailable as error:
        tell(failed=error.reason)
        server.stop()
        return 3
    serve(server, ended)
    server.stop()
    tell(stopped=True)
    return 0


def serve(server: EmbeddedPostgres, ended: list[int]) -> None:
    told: tuple[object, ...] = ()
    while not ended:
        server.poll()
        now = (server.ready, server.pid, server.failure if not server.ready else "")
        if now != told:
            told = now
            tell(ready=server.ready, pid=server.pid, url=server.url, waiting_for=server.waiting_for)
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
