"""When memory goes back to the system."""

from fabricmgr.app.memory import ENOUGH, Memory, trimmer


async def test_memory_is_given_back_at_two_looks_for_many_connections_that_ended() -> None:
    ended, given = [7], []
    memory = Memory(lambda: ended[0], lambda: given.append(ended[0]))

    for more in (0, ENOUGH - 1, 1, 0, 0, ENOUGH - 1, 5 * ENOUGH, 0, 0):
        ended[0] += more
        await memory.once()

    first, second = 7 + ENOUGH, 7 + 7 * ENOUGH - 1
    assert given == [first, first, second, second]


def test_a_trim_may_be_asked_for_at_any_time() -> None:
    give_back = trimmer()

    give_back()
    give_back()
