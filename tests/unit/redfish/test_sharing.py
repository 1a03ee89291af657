"""One look at the database for all who ask for a collection at once."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from fabricmgr.redfish.pages import EVERYTHING, Pages
from fabricmgr.redfish.resource import Ask, Place, Resource, Site, Tree
from fabricmgr.web.who import Principal

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Switch:
    """Ports whose look takes until it is let go."""

    def __init__(self) -> None:
        self.looks = 0
        self.ports = ["p1"]
        self.began, self.go = asyncio.Event(), asyncio.Event()

    async def members(self, ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
        del ask
        self.looks += 1
        self.began.set()
        seen = list(self.ports)
        await self.go.wait()
        return seen[skip:][:top], len(seen)


async def nothing(ask: Ask) -> Any:
    del ask


def asking(switch: Switch) -> tuple[Pages, Place, Ask]:
    ports = Resource("Port", "/redfish/v1/Ports/{port_id}", nothing, lambda _: {}, members=switch.members)
    tree = Tree()
    tree.add(ports)
    ask = Ask(cast(Site, None), Principal("anna"), "/redfish/v1/Ports", {}, NOW)
    return Pages(tree), Place(ports, True, {}), ask


async def test_those_who_ask_at_once_share_one_look() -> None:
    switch = Switch()
    pages, place, ask = asking(switch)

    waiting = [asyncio.create_task(pages.collection(place, ask, EVERYTHING)) for _ in range(8)]
    await asyncio.sleep(0)
    switch.go.set()
    found = await asyncio.gather(*waiting)

    assert switch.looks == 1
    assert all(page["Members@odata.count"] == 1 for page in found)


async def test_who_asks_while_a_look_is_under_way_gets_one_that_begins_later() -> None:
    switch = Switch()
    pages, place, ask = asking(switch)
    early = asyncio.create_task(pages.collection(place, ask, EVERYTHING))
    await switch.began.wait()

    switch.ports.append("p2")
    late = asyncio.create_task(pages.collection(place, ask, EVERYTHING))
    await asyncio.sleep(0)
    switch.go.set()

    assert ((await early)["Members@odata.count"], (await late)["Members@odata.count"]) == (1, 2)


async def test_another_slice_or_another_collection_is_another_look() -> None:
    switch = Switch()
    switch.go.set()
    pages, place, ask = asking(switch)

    await asyncio.gather(
        pages.collection(place, ask, EVERYTHING),
        pages.collection(place, ask, replace(EVERYTHING, skip=1)),
        pages.collection(place, replace(ask, uri="/redfish/v1/Other"), EVERYTHING),
    )

    assert switch.looks == 3
