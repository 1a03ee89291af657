"""An agent's announcer alone, in a process of its own: `python -m tests.support.announcing FILE`, inside a node's namespace.

FILE holds a JSON list of [address, term] and is read at each pass; with `leased` as second argument the manager's word never ends. What it
says is printed as a line of JSON whenever it changes.
"""

import asyncio
import json
import sys
from pathlib import Path

import msgspec

from fabricmgr.agent.announce import Announcer
from fabricmgr.agent.links import Kernel
from fabricmgr.loop import Loop
from fabricmgr.wire import Announce, Announced, Held


async def serve(path: Path, leased: bool) -> None:
    def wanted() -> list[Announce]:
        return [Announce(address=address, term=term) for address, term in json.loads(path.read_text())]

    announcer = Announcer(Kernel(), wanted, set)
    loop = Loop("announce", announcer.once, 0.1)
    announcer.woken = loop.wake
    announcer.changed = lambda: print(msgspec.json.encode(announcer.voices()).decode(), flush=True)
    running = asyncio.create_task(loop.run())
    while not running.done():
        if leased:
            announcer.leased(Announced(leases=[Held(address=each.address, term=each.term, until_ms=1200) for each in wanted()]))
        loop.wake()
        await asyncio.sleep(0.05)
    await running


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), "leased" in sys.argv[2:]))
