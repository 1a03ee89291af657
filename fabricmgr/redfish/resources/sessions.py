"""SessionService and its Sessions: how a client logs in and out (DSP0266, 13.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from fabricmgr.domain.account import Session
from fabricmgr.domain.errors import NotFound, PasswordChangeRequired
from fabricmgr.domain.page import LARGEST_LIMIT, Page
from fabricmgr.redfish.body import Json, Object, Text
from fabricmgr.redfish.resource import Ask, Made, Resource
from fabricmgr.services import sessions
from fabricmgr.web.who import Principal


@dataclass(frozen=True)
class Service:
    timeout: timedelta


async def get_service(ask: Ask) -> Service:
    return Service(ask.site.session_timeout)


def service_body(service: Service) -> Json:
    return {
        "Id": "SessionService",
        "Name": "Session service",
        "ServiceEnabled": True,
        "SessionTimeout": int(service.timeout.total_seconds()),
        "Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"},
    }


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("session", text) from None


async def get(ask: Ask) -> Session:
    wanted = _id(ask.params["session_id"])
    async with ask.database.read() as tx:
        return await sessions.get(tx, wanted, ask.site.session_timeout, ask.now)


async def members(ask: Ask, skip: int, top: int | None) -> tuple[Sequence[str], int]:
    found: list[str] = []
    after: str | None = None
    async with ask.database.read() as tx:
        while True:
            page = await sessions.list_all(tx, ask.site.session_timeout, ask.now, Page(LARGEST_LIMIT, after))
            found += [str(each.id) for each in page.items]
            if page.next is None:
                return found[skip:][:top], len(found)
            after = page.next


def body(session: Session) -> Json:
    return {
        "Id": str(session.id),
        "Name": f"Session of {session.account}",
        "UserName": session.account,
        "Roles": [session.role.value],
        "ClientOriginIPAddress": session.source,
        "CreatedTime": session.created_at.isoformat(timespec="seconds"),
    }


async def create(ask: Ask, given: Json) -> Made:
    who = await ask.site.gate.authenticate(given["UserName"], given["Password"], ask.source, ask.now)
    opened, token = await ask.database.run(lambda tx: sessions.open_session(tx, who, ask.source, ask.now))
    warned = PasswordChangeRequired(who.name) if who.must_change else None
    return Made(str(opened.id), opened, ((b"x-auth-token", token.encode()),), warned)


async def delete(ask: Ask, session: Session, _version: int | None) -> None:
    await ask.database.run(lambda tx: sessions.close(tx, session.id))
    ask.site.who.forget_session_id(session.id)


def own(principal: Principal, session: Session) -> bool:
    """Whether it is one of the principal's own."""
    return principal.name == session.account


session_service = Resource(schema="SessionService", uri="/redfish/v1/SessionService", get=get_service, body=service_body)
session = Resource(
    schema="Session",
    uri="/redfish/v1/SessionService/Sessions/{session_id}",
    get=get,
    body=body,
    members=members,
    collection_name="Sessions",
    delete=delete,
    create=create,
    creatable=Object({"UserName": Text(), "Password": Text()}, required=("UserName", "Password")),
    own=own,
    login=True,
)
