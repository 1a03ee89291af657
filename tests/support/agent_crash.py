"""An agent that ends itself, as by kill -9, after its n-th journal record or netlink datagram.

`python -m tests.support.agent_crash journal|netlink FILE ...flags`: nothing happens until FILE exists, which holds n.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fabricmgr.agent import daemon, logs
from fabricmgr.agent.daemon import Doors
from fabricmgr.agent.journal import Journal
from fabricmgr.agent.records import AnyRecord
from fabricmgr.netlink.sockets import NetlinkSocket
from fabricmgr.settings import AgentSettings, load


class Fuse:
    """Burns down with each call once it is lit."""

    file = Path("/nonexistent")
    burnt = 0

    @classmethod
    def burn(cls) -> None:
        if not cls.file.exists():
            return
        cls.burnt += 1
        if cls.burnt >= int(cls.file.read_text()):
            os.kill(os.getpid(), signal.SIGKILL)


class FusedJournal(Journal):
    def write(self, record: AnyRecord) -> None:
        super().write(record)
        Fuse.burn()


class FusedSocket(NetlinkSocket):
    def _send(self, messages: Sequence[bytearray], acknowledged: range) -> tuple[int, int]:
        sent = super()._send(messages, acknowledged)
        Fuse.burn()
        return sent


def main(kind: str, file: str, flags: list[str]) -> None:
    Fuse.file = Path(file)
    doors = Doors(open_journal=FusedJournal.open) if kind == "journal" else Doors(open_socket=FusedSocket)
    settings = load(AgentSettings, flags, os.environ)
    logs.start("text", "info")
    asyncio.run(daemon.serve(settings, doors))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
