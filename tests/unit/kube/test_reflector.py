"""How a Reflector goes on after each kind of fault. Whatever sequence they come in: tests/property/test_reflector.py."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from fabricmgr.domain.errors import ApiAbsent, ApiRefused, ApiTooMany, ApiUnauthorized, ApiUntrusted, FabricError
from fabricmgr.kube.client import Expired
from fabricmgr.kube.reflector import LONGEST_PAUSE, Change, Happened, Reflector
from fabricmgr.kube.views import PODS, SERVICE_CIDRS, Pod
from tests.support.kube_history import CUT, History

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REFUSED = ApiRefused("list", "pods", "pods is forbidden")


def made(*script: Callable[[History], None]) -> tuple[History, Reflector[Pod], list[Change[Pod]]]:
    seen: list[Change[Pod]] = []
    server = History(iter(script))
    return server, Reflector(server, PODS, seen.append, clock=lambda: NOW, chance=lambda: 1.0), seen


def nothing(server: History) -> None:
    del server


async def test_a_list_in_pages_is_one_copy() -> None:
    server, reflector, seen = made()
    for name in "abcde":
        server.create(name)

    await reflector.step()

    assert [change.kind for change in seen] == [Happened.ADDED] * 5
    assert reflector.synced.is_set()


async def test_a_copy_is_not_synced_before_its_last_page() -> None:
    server, reflector, _ = made(nothing, lambda server: server.fail(CUT))
    for name in "abcde":
        server.create(name)

    await reflector.step()

    assert len(reflector.store) == 2
    assert not reflector.synced.is_set()


async def test_an_expired_page_begins_the_list_again_at_once() -> None:
    server, reflector, seen = made(nothing, lambda server: server.forget())
    for name in "abcde":
        server.create(name)

    assert await reflector.step() == 0.0
    await reflector.step()

    assert server.lists == 2
    assert len(seen) == 5


async def test_a_cut_watch_goes_on_from_its_last_version_without_a_list() -> None:
    server, reflector, seen = made()
    await reflector.step()
    server.create("a")
    server.fail(CUT)
    await reflector.step()

    await reflector.step()

    assert server.lists == 1
    assert [change.object.name for change in seen] == ["a"]


async def test_a_bookmark_moves_the_version_and_changes_nothing() -> None:
    server, reflector, seen = made()
    await reflector.step()
    server.version += 10
    server.bookmark()
    await reflector.step()
    server.forgotten = server.version

    await reflector.step()

    assert server.lists == 1
    assert seen == []


async def test_what_vanished_while_a_version_was_forgotten_is_deleted() -> None:
    server, reflector, seen = made()
    server.create("a")
    server.create("b")
    await reflector.step()
    server.delete("a")
    server.forget()

    await reflector.step()
    await reflector.step()

    assert [(change.kind, change.object.name) for change in seen[2:]] == [(Happened.DELETED, "a")]


async def test_another_object_of_the_same_name_is_a_deletion_and_an_addition() -> None:
    server, reflector, seen = made()
    server.create("a")
    await reflector.step()
    server.delete("a")
    server.create("a")
    server.forget()

    await reflector.step()
    await reflector.step()

    assert [change.kind for change in seen] == [Happened.ADDED, Happened.DELETED, Happened.ADDED]
    assert seen[0].object.uid == seen[1].object.uid != seen[2].object.uid


async def test_a_server_that_forgets_as_fast_as_it_lists_is_given_time() -> None:
    server, reflector, _ = made()

    pauses = []
    for _ in range(12):
        server.fail(Expired())
        pauses.append(await reflector.step())

    assert pauses[0] == 0.0
    assert pauses[1:] == sorted(pauses[1:])
    assert pauses[-1] == LONGEST_PAUSE


async def test_pauses_grow_and_an_event_sets_them_back() -> None:
    server, reflector, _ = made()
    await reflector.step()
    grown = []
    for _ in range(5):
        server.fail(CUT)
        grown.append(await reflector.step())
    server.create("a")
    await reflector.step()
    server.fail(CUT)

    fresh = await reflector.step()

    assert grown[-1] >= 8.0
    assert fresh <= 1.0


@pytest.mark.parametrize("error", [REFUSED, ApiUntrusted("https://api.test", "self-signed certificate")])
async def test_what_people_must_mend_is_reported_and_not_repeated_in_a_loop(error: FabricError) -> None:
    server, reflector, _ = made()
    server.fail(error)

    pause = await reflector.step()

    assert pause >= 60.0
    assert reflector.error is error
    await reflector.step()
    assert reflector.error is None


async def test_a_busy_server_says_how_long_to_wait() -> None:
    server, reflector, _ = made()
    server.fail(ApiTooMany("https://api.test", 7))

    assert 7.0 <= await reflector.step() <= 8.4


async def test_a_refused_token_is_tried_again_soon() -> None:
    server, reflector, _ = made()
    server.fail(ApiUnauthorized("https://api.test"))

    assert await reflector.step() <= 1.0


async def test_a_kind_that_no_server_must_have_is_empty_and_whole() -> None:
    server = History(iter(()))
    reflector = Reflector(server, SERVICE_CIDRS, lambda _: None, clock=lambda: NOW, chance=lambda: 1.0)
    server.fail(ApiAbsent("servicecidrs.networking.k8s.io", ""))

    pause = await reflector.step()

    assert pause >= 60.0
    assert reflector.absent
    assert reflector.synced.is_set()
    assert reflector.error is None


async def test_a_kind_that_every_server_has_is_missed() -> None:
    server, reflector, _ = made()
    server.fail(ApiAbsent("pods", ""))

    await reflector.step()

    assert isinstance(reflector.error, ApiAbsent)
    assert not reflector.synced.is_set()


async def test_it_never_ends_towards_its_caller() -> None:
    server, reflector, _ = made()
    server.faults = [CUT, Expired(), CUT]

    running = asyncio.create_task(reflector.run())
    done, _ = await asyncio.wait([running], timeout=0.05)
    running.cancel()

    assert not done
