"""/v1/history: who had an address and when; what happened to an owner."""

from datetime import datetime

from fastapi import APIRouter, Response

from fabricmgr.api.framework import View
from fabricmgr.api.parts import Called, Paging
from fabricmgr.domain.addresses import parse_address
from fabricmgr.domain.allocation import HistoryEntry, Holding
from fabricmgr.domain.errors import MissingField
from fabricmgr.domain.page import Paged
from fabricmgr.domain.times import parse_instant
from fabricmgr.services import history
from fabricmgr.services.allocations import owner_key

router = APIRouter(tags=["history"])


class HoldingView(View):
    """until_at: null where it still has it. gone_at: no link carried it any more. by: who asked for it. reason: why it ended."""

    address: str
    scope: int
    generation: int
    key: str | None
    owner: str
    cluster: str | None
    node: str | None
    from_at: datetime
    until_at: datetime | None
    gone_at: datetime | None
    by: str
    reason: str
    about: dict[str, object]

    @classmethod
    def of(cls, found: Holding) -> "HoldingView":
        fields = {name: value for name, value in vars(found).items() if name != "label"}
        return cls(**fields | {"address": str(found.address), "key": _text(found.owner), "owner": found.label, "about": dict(found.about)})


class EntryView(View):
    """what: assigned, released, gone, or held back."""

    at: datetime
    what: str
    key: str | None
    owner: str
    address: str | None
    generation: int | None
    node: str | None
    by: str
    detail: dict[str, object]

    @classmethod
    def of(cls, found: HistoryEntry) -> "EntryView":
        fields = {name: value for name, value in vars(found).items() if name not in ("id", "label")}
        changed = {"address": _text(found.address), "key": _text(found.owner), "owner": found.label, "detail": dict(found.detail)}
        return cls(**fields | changed)


class HistoryPage(View):
    items: list[HoldingView | EntryView]
    next: str | None


@router.get("/v1/history", response_model=HistoryPage)
async def show_history(call: Called, page: Paging, address: str | None = None, at: str | None = None, owner: str | None = None) -> Response:
    """Holders of an address, the newest first, or whose it was at a time; or, line by line, what happened to an owner (by key)."""
    if (address is None) == (owner is None):
        raise MissingField("address", "an address, or else an owner's key in `owner`")
    if owner is not None:
        key = owner_key(owner)
        found = await call.read(lambda tx: history.of_owner(tx, key, page))
        return call.shown(HistoryPage(items=[EntryView.of(each) for each in found.items], next=found.next))
    asked = parse_address(address or "")
    if at is None:
        holders = await call.read(lambda tx: history.holdings(tx, asked, page))
    else:
        when = parse_instant(at)
        holders = Paged(tuple(await call.read(lambda tx: history.who_had(tx, asked, when))), None)
    return call.shown(HistoryPage(items=[HoldingView.of(each) for each in holders.items], next=holders.next))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
