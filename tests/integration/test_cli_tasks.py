"""Tasks by command line and /v1."""

import asyncio
import json
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from fabricmgr.controllers import tasks as controller
from fabricmgr.domain.task import Request, TaskDraft, TaskKind
from fabricmgr.services import tasks
from tests.integration.test_cli import Run, logged_in, run, served
from tests.support.manager import Served, clock

__all__ = ["logged_in", "run", "served"]  # fixtures


def asked_for(served: Served, pool: str, minute: int = 0) -> UUID:
    """A task that deletes a pool, asked for some minutes ago."""
    draft = TaskDraft(TaskKind.DELETE_POOL, f"Delete pool {pool}", {"pool": pool}, Request("DELETE", f"/pools/{pool}"))
    at, made = clock() - timedelta(minutes=minute), uuid4()
    use = partial(tasks.create, draft=draft, task_id=made, by="admin", now=at)
    asyncio.run_coroutine_threadsafe(served.manager.parts.database.run(use), served.loop).result(30)
    return made


def worked(served: Served) -> None:
    asyncio.run_coroutine_threadsafe(controller.work(served.manager.parts.database, clock()), served.loop).result(30)


def test_tasks_are_listed_the_newest_first_shown_and_called_off(logged_in: Served, run: Run) -> None:
    older, newer = asked_for(logged_in, "blue", 5), asked_for(logged_in, "red")

    listed = json.loads(run("task", "list", "-o", "json")[1])
    called_off = run("task", "cancel", str(newer))
    worked(logged_in)
    shown = [json.loads(run("task", "show", str(each), "-o", "json")[1]) for each in (older, newer)]
    table = run("task", "list")[1]
    forgotten = run("task", "cancel", str(newer))
    unknown = run("task", "show", str(newer))

    assert [each["id"] for each in listed] == [str(newer), str(older)]
    assert {each["state"] for each in listed} == {"new"}
    assert called_off[:2] == (0, f"task {newer} called off\n")
    assert [each["state"] for each in shown] == ["failed", "cancelled"]
    assert (shown[0]["status"], shown[1]["status"]) == (404, None)
    assert "blue" in shown[0]["error"]
    assert "cancelled" in table
    assert forgotten[0] == 0
    assert unknown[0] != 0
    assert str(newer) in unknown[2]


def test_pages_of_tasks_add_up_to_all_and_a_page_nobody_gave_is_refused(served: Served) -> None:
    made = [str(asked_for(served, "blue", minute)) for minute in (4, 3, 2, 2, 1)]
    client = served.login()

    found, after = [], ""
    while True:
        page = client.get(f"/v1/tasks?limit=2{after}").json()
        found += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next'].replace('+', '%2B')}"
    refused = client.get("/v1/tasks?after=yesterday")

    assert sorted(found) == sorted(made)
    assert (found[0], found[-2:]) == (made[-1], [made[1], made[0]])
    assert refused.status_code == 400
    assert "after" in refused.text


def test_what_names_no_task_is_not_there(served: Served) -> None:
    client = served.login()

    for text in (str(uuid4()), "none"):
        assert client.get(f"/v1/tasks/{text}").status_code == 404
        assert client.delete(f"/v1/tasks/{text}").status_code == 404
