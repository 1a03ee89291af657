"""A web worker cut down to some of its layers, for `bench.alloc_http`: `python -m bench.alloc_server URL FUNCTION [CERTIFICATE]`.

What is left: uvicorn with our protocol, msgspec, one lane of the writer. FUNCTION is the SQL function it calls; a CERTIFICATE (PEM, key
with it) switches TLS on. It prints its port and serves until it is ended.
"""

import asyncio
import random
import socket
import ssl
import sys
from uuid import uuid4

import msgspec
import uvicorn

from bench.alloc import now, want
from fabricmgr.api.direct import AddressView, AllocationView, Wanted
from fabricmgr.domain.errors import FabricError
from fabricmgr.store import connect
from fabricmgr.store.lanes import Lane
from fabricmgr.store.repeat import Caller
from fabricmgr.store.writer_allocate import Allocating, Taken, Want
from fabricmgr.web.asgi import Receive, Scope, Send
from fabricmgr.web.protocol import server_config
from fabricmgr.web.receiving import read_body
from fabricmgr.web.responses import Answer, ok, problem, send_answer

LIMIT = 1 << 20


async def serve(url: str, function: str, certificate: str | None) -> None:
    pool = await connect.create_pool(url, "bench", size=4)
    allocating = Allocating(Caller(pool, random.random), (1, None), now, function)
    lane = Lane[Want, Taken]("bench", allocating.send, lambda each: each.owner)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send_answer(send, await answer(lane, scope, receive))

    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:  # without the protocol named, asyncio leaves Nagle on
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        print(listening.getsockname()[1], flush=True)
        config = server_config(app, refused, keep_alive_seconds=75, tls=tls)
        config.lifespan = "off"
        await uvicorn.Server(config).serve([listening])


async def answer(lane: Lane[Want, Taken], scope: Scope, receive: Receive) -> Answer:
    """PUT .../{owner}: an address, as /v1 answers it."""
    msgspec.json.decode(await read_body(scope, receive, LIMIT), type=Wanted)
    owner = scope["path"].rpartition("/")[2]
    taken = await lane.ask(want(uuid4()))
    given = [AddressView(str(each.address), each.generation) for each in (taken.v4, taken.v6) if each is not None]
    return ok(AllocationView("bench", owner, given), 201)


def refused(error: FabricError | None, path: str) -> Answer:
    return problem(error, path)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
