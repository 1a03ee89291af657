"""/v1/events: what happened, by position."""

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from fabricmgr.api.agents import seconds
from fabricmgr.api.framework import View
from fabricmgr.api.parts import Called
from fabricmgr.api.polling import first_of
from fabricmgr.domain.events import Event
from fabricmgr.domain.page import DEFAULT_LIMIT
from fabricmgr.services import events
from fabricmgr.store.tx import Tx
from fabricmgr.store.wake import EVENT_CHANNEL

router = APIRouter(tags=["events"])
LONGEST_WAIT = 60.0  # seconds


class EventView(View):
    position: int
    at: datetime
    what: str
    about: dict[str, object]


class EventList(View):
    """oldest: the first position still kept. last: the newest there is."""

    items: list[EventView]
    oldest: int
    last: int


@router.get("/v1/events", response_model=EventList)
async def list_events(
    call: Called,
    after: Annotated[int, Query(description="those behind this position")] = 0,
    limit: int = DEFAULT_LIMIT,
    wait: Annotated[str, Query(description="seconds to wait when there is none yet, up to 60")] = "0",
) -> Response:
    """Events behind a position, oldest first; with `wait` as soon as there is one."""
    clock = asyncio.get_running_loop().time
    ends = clock() + seconds(wait, "wait", LONGEST_WAIT)
    while True:
        ticket = call.parts.listener.ticket(EVENT_CHANNEL)
        found, oldest, last = await call.read(lambda tx: _look(tx, after, limit))
        if found or clock() >= ends or call.parts.stopping.is_set():
            items = [EventView(position=each.position, at=each.at, what=each.what, about=dict(each.about)) for each in found]
            return call.shown(EventList(items=items, oldest=oldest, last=last))
        await first_of(ticket, call.parts.stopping, ends - clock())
        if call.parts.stopping.is_set():
            return call.shown(EventList(items=[], oldest=oldest, last=last))  # a thousand last looks would keep us from ending


async def _look(tx: Tx, after: int, limit: int) -> tuple[list[Event], int, int]:
    return await events.after(tx, after, limit), await events.oldest(tx), await events.newest(tx)
