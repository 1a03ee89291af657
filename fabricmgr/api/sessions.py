"""/v1/sessions: a password once, a token afterwards."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from fabricmgr.api.framework import Model, View
from fabricmgr.api.parts import Called, gone
from fabricmgr.domain.account import Session
from fabricmgr.domain.errors import NotFound
from fabricmgr.services import sessions
from fabricmgr.web.privileges import account_of

router = APIRouter(tags=["sessions"])
CURRENT = "/v1/sessions/current"


class SessionCreate(Model):
    account: str
    password: str


class SessionView(View):
    """expires: unless it is used before."""

    account: str
    role: str
    source: str
    created_at: datetime
    expires: datetime


class SessionOpened(SessionView):
    """token: for X-Auth-Token. It is shown this once."""

    token: str


@router.post("/v1/sessions", response_model=SessionOpened, status_code=201)
async def open_session(call: Called, body: SessionCreate) -> Response:
    """Log in."""
    recognised = await call.parts.gate.authenticate(body.account, body.password, call.source, call.now)
    opened, token = await call.run(lambda tx: sessions.open_session(tx, recognised, call.source, call.now))
    return call.shown(SessionOpened(token=token, **_fields(call, opened)), location=CURRENT)


@router.get(CURRENT, response_model=SessionView)
async def show_session(call: Called) -> Response:
    """The session this request came with."""
    known = account_of(call.principal).session
    if known is None:
        raise NotFound("session", "of a request with a password")
    found = await call.read(lambda tx: sessions.get(tx, known, call.parts.settings.session_timeout, call.now))
    return call.shown(SessionView(**_fields(call, found)))


@router.delete(CURRENT, status_code=204)
async def close_session(call: Called, x_auth_token: Annotated[str, Header()] = "") -> Response:
    """Log out."""
    known = account_of(call.principal).session
    if known is None:
        raise NotFound("session", "of a request with a password")
    await call.run(lambda tx: sessions.close(tx, known))
    call.parts.who.forget_session(x_auth_token)
    return gone()


def _fields(call: Called, found: Session) -> dict[str, Any]:
    return {
        "account": found.account,
        "role": found.role.value,
        "source": found.source,
        "created_at": found.created_at,
        "expires": found.seen_at + call.parts.settings.session_timeout,
    }
