"""How a request's body is taken in: whole, within a limit and a time."""

import asyncio

from fabricmgr.domain.errors import BodyTooLarge, MalformedBody
from fabricmgr.web.asgi import Receive, Scope, header

PATIENCE = 30.0  # seconds for a body to arrive


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge, before it is read where its length is announced, and MalformedBody when it does not come."""
    announced = header(scope, b"content-length")
    if announced.isdigit() and int(announced) > limit:
        raise BodyTooLarge(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise MalformedBody("the body", "the connection ended within it")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise BodyTooLarge(limit)
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise MalformedBody("the body", f"it did not come within {PATIENCE:.0f} s") from None
