"""One call to the manager: the stored login, the answer as JSON, a problem as one line."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx2

from fabricmgr.cli import login
from fabricmgr.cli.failure import NOT_LOGGED_IN, REFUSED, UNREACHABLE, Failure

Json = dict[str, Any]
# Longer than the longest a manager waits for a lock before it answers.
TIMEOUT_SECONDS = 60.0
PAGE = 1000


def path(*parts: str) -> str:
    """A path below /v1 from its parts, each quoted."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def call(method: str, where: str, body: Json | None = None, query: Mapping[str, object] | None = None, version: str | None = None) -> Json:
    """Send one request as the one who is logged in. Raises Failure."""
    who = login.load()
    headers = {"X-Auth-Token": who.token}
    if version is not None:
        headers["If-Match"] = version
    return send(who.url, who.authorities, method, where, body, query, headers)


def send(
    url: str,
    authorities: str,
    method: str,
    where: str,
    body: Json | None = None,
    query: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Json:
    """Send one request to the manager at `url`. Raises Failure."""
    asked = {name: str(value) for name, value in (query or {}).items() if value not in (None, "")}
    try:
        with httpx2.Client(verify=login.trust(authorities), trust_env=False, timeout=TIMEOUT_SECONDS) as client:
            answer = client.request(method, url + where, json=body, params=asked, headers=headers)
    except httpx2.HTTPError as error:
        raise Failure(f"the manager at {url} cannot be reached: {error}", UNREACHABLE) from None
    if answer.status_code >= 400:
        raise Failure(_refusal(answer), NOT_LOGGED_IN if answer.status_code == 401 else REFUSED)
    return answer.json() if answer.content else {}


def items(where: str, query: Mapping[str, object] | None = None, most: int | None = None) -> Iterator[Json]:
    """Every item of a list, page by page, `most` at most."""
    asked = {**(query or {}), "limit": min(PAGE, most or PAGE)}
    count = 0
    while True:
        page = call("GET", where, query=asked)
        for item in page["items"]:
            yield item
            count += 1
            if most is not None and count >= most:
                return
        if not page.get("next"):
            return
        asked["after"] = page["next"]


def _refusal(answer: httpx2.Response) -> str:
    try:
        message = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"the manager answered {answer.status_code}"
    hint = "; run `fabricmgr login URL`" if answer.status_code == 401 else ""
    return f"{message}{hint}"
