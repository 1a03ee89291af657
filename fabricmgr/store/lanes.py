"""Group commit: while one batch is in the database, the next one gathers. No timer: who comes alone waits for nobody."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from fabricmgr.domain.errors import Busy
from fabricmgr.metrics import BATCH_SIZE

Q = TypeVar("Q")
A = TypeVar("A")

LARGEST_BATCH = 256
LONGEST_QUEUE = 4096
RETRY_AFTER = 1  # seconds


class Lane(Generic[Q, A]):
    """One way into the database. `send` gets a batch and gives an answer or an error for each question, in their order.

    key: two questions with one key never share a batch, unless they are equal: then they are one question with two answers."""

    def __init__(
        self,
        kind: str,
        send: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        key: Callable[[Q], Hashable],
        *,
        largest: int = LARGEST_BATCH,
        longest_queue: int = LONGEST_QUEUE,
    ) -> None:
        self._kind = kind
        self._send = send
        self._key = key
        self._largest = largest
        self._longest_queue = longest_queue
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._size = BATCH_SIZE.labels(kind)

    async def ask(self, question: Q) -> A:
        """The answer, after its commit. A caller that goes away changes nothing: its question is answered to nobody.

        Raises Busy when too many wait, and what `send` gives or raises."""
        if len(self._waiting) >= self._longest_queue:
            raise Busy("the writer", RETRY_AFTER)
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    async def drain(self) -> None:
        """Wait until all that was asked is answered."""
        while self._running is not None:
            await asyncio.wait([self._running])

    @property
    def idle(self) -> bool:
        """Nobody waits and nothing is in flight."""
        return self._running is None

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._gather())
        finally:
            self._running = None

    def _gather(self) -> "dict[Hashable, tuple[Q, list[asyncio.Future[A]]]]":
        batch: dict[Hashable, tuple[Q, list[asyncio.Future[A]]]] = {}
        while self._waiting and len(batch) < self._largest:
            question, answer = self._waiting[0]
            entry = batch.setdefault(self._key(question), (question, []))
            if entry[0] is not question and entry[0] != question:
                break
            entry[1].append(answer)
            self._waiting.popleft()
        return batch

    async def _commit(self, batch: "dict[Hashable, tuple[Q, list[asyncio.Future[A]]]]") -> None:
        self._size.observe(sum(len(answers) for _, answers in batch.values()))
        try:
            results = await self._send([question for question, _ in batch.values()])
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the callers' answer, and the lane goes on
            results = [error] * len(batch)
        except asyncio.CancelledError:
            for _, answers in batch.values():
                for answer in answers:
                    answer.cancel()
            raise
        for (_, answers), result in zip(batch.values(), results, strict=True):
            for answer in answers:
                _settle(answer, result)


def _settle(answer: asyncio.Future[A], result: A | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
