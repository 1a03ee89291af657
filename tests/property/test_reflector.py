"""A Reflector's copy against a server's own store, under any sequence of changes and faults."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fabricmgr.domain.errors import ApiTooMany
from fabricmgr.kube.client import Expired
from fabricmgr.kube.reflector import Change, Happened, Reflector
from fabricmgr.kube.views import PODS, Pod
from tests.support.kube_history import CUT, History

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Step = Callable[[History], None]

names = st.sampled_from("abcde")
changes = st.one_of(
    names.map(lambda name: lambda server: server.create(name)),
    names.map(lambda name: lambda server: server.modify(name)),
    names.map(lambda name: lambda server: server.delete(name)),
    names.map(lambda name: lambda server: server.replace(name)),
)
faults = st.sampled_from(
    [
        lambda server: server.fail(CUT),
        lambda server: server.fail(Expired()),
        lambda server: server.fail(ApiTooMany("https://api.test", 1)),
        lambda server: server.forget(),
        lambda server: server.bookmark(),
    ]
)
scripts = st.lists(st.one_of(changes, changes, faults), max_size=60)


def follow(script: list[Step]) -> tuple[History, Reflector[Pod], list[Change[Pod]]]:
    """Until the script is over and the server has nothing more to say."""
    seen: list[Change[Pod]] = []

    async def run() -> tuple[History, Reflector[Pod]]:
        left = iter(script)
        server = History(left)
        reflector = Reflector(server, PODS, seen.append, clock=lambda: NOW, chance=lambda: 0.5)
        for _ in range(3 * len(script) + 5):
            await reflector.step()
        assert next(left, None) is None
        return server, reflector

    return *asyncio.run(run()), seen


def by_uid(seen: list[Change[Pod]]) -> dict[str, list[Happened]]:
    found: defaultdict[str, list[Happened]] = defaultdict(list)
    for change in seen:
        found[change.object.uid].append(change.kind)
    return found


@given(scripts)
def test_the_copy_ends_as_the_server_has_it(script: list[Step]) -> None:
    server, reflector, _ = follow(script)

    assert reflector.synced.is_set()
    assert dict(reflector.store) == {each.uid: each for each in server.live.values()}
    assert all(reflector.find(each.name, "default") == each for each in server.live.values())


@given(scripts)
def test_each_object_is_added_once_and_deleted_once_when_it_is_gone(script: list[Step]) -> None:
    server, _, seen = follow(script)

    alive = {each.uid for each in server.live.values()}
    for uid, told in by_uid(seen).items():
        assert told[0] is Happened.ADDED
        assert told.count(Happened.ADDED) == 1
        assert told.count(Happened.DELETED) == (uid not in alive)
        assert uid in alive or told[-1] is Happened.DELETED


@given(scripts)
def test_nothing_that_a_server_remembers_is_missed(script: list[Step]) -> None:
    """Only what came and went while a version was forgotten, or before the first list, can be unknown to a copy."""
    server, _, seen = follow(script)

    told = by_uid(seen)
    assert {each.uid for each in server.live.values()} <= set(told)
    if server.lists == 1 and not server.forgotten:
        first = next((change.object.metadata.resource_version for change in seen), "0")
        assert {uid for uid, version in server.made.items() if version > int(first)} <= set(told)


@given(scripts)
def test_a_change_tells_what_was_before(script: list[Step]) -> None:
    _, _, seen = follow(script)

    last: dict[str, Pod] = {}
    for change in seen:
        assert change.old == last.get(change.object.uid)
        if change.new is None:
            del last[change.object.uid]
        else:
            last[change.object.uid] = change.new
    for one, other in itertools.combinations(last.values(), 2):
        assert one.key != other.key
