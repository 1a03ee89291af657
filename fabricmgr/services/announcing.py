"""What agents say of the addresses that they announce, and what they are told."""

import asyncio
from collections.abc import Mapping, Sequence

from fabricmgr import wire
from fabricmgr.domain.account import NodePrincipal
from fabricmgr.domain.addresses import Address, parse_address
from fabricmgr.domain.election import Stage
from fabricmgr.domain.errors import HelloRequired, Invalid
from fabricmgr.store import voice_rows
from fabricmgr.store.listen import Listener
from fabricmgr.store.tx import Database, Tx
from fabricmgr.store.voice_rows import Said, Say
from fabricmgr.store.wake import ANNOUNCE_CHANNEL

LARGEST_TERM = 2**63 - 1
LONGEST_REASON = 200
MOST_VOICES = 10_000
# A holder is told of less than it has, so that what it believes never outlasts what we do.
LEASE = wire.ANNOUNCING_LAPSE - 0.2  # seconds


async def beat(tx: Tx, node: NodePrincipal, asked: wire.Announcing) -> wire.Announced:
    """Note that a node's announcer was heard and what it says; its leases. What it says again is not written again.

    Raises HelloRequired for another life than the one that said hello last, Invalid for what cannot be read."""
    voices = _read(asked.voices)
    current = await voice_rows.beat(tx, node.node_id, asked.life)
    if not current:
        reason = "no life of it has said hello yet" if current is None else "another life of it said hello last"
        raise HelloRequired(node.name, reason)
    known = await voice_rows.said(tx, node.node_id, voices)
    if new := news(known, voices):
        await voice_rows.say(tx, node.node_id, new)
    return wire.Announced(leases=[_lease(address, known[address]) for address in voices if address in known and _leads(known[address])])


def _leads(said: Said) -> bool:
    """Whether nobody else is named beside it."""
    return said.holds and said.alone


def _lease(address: Address, said: Said) -> wire.Held:
    return wire.Held(address=str(address), term=said.decided, until_ms=int(LEASE * 1000))


def _read(voices: Sequence[wire.Voice]) -> dict[Address, wire.Voice]:
    if len(voices) > MOST_VOICES:
        raise Invalid("voices", len(voices), f"at most {MOST_VOICES} of them")
    for each in voices:
        if not 0 <= each.term <= LARGEST_TERM:
            raise Invalid("term", each.term, "a term that came from here")
    return {parse_address(each.address): each for each in voices}


def news(known: Mapping[Address, Said], voices: Mapping[Address, wire.Voice]) -> list[Say]:
    """What differs from what the node said before. An address that it does not name and named before is over: it is silent there."""
    found = [_say(address, voice) for address, voice in voices.items() if address in known and _new(known[address], voice)]
    for address, said in known.items():
        if address not in voices and said.stage is not None and said.stage is not Stage.SILENT:
            told = said.holds or said.succeeds
            # One that was told a moment ago has not heard of it yet.
            if not (told and said.stage is Stage.TOLD):
                found.append(Say(address, said.term, Stage.SILENT, reason="its agent stopped" if told else "", failed=told))
    return found


def _new(said: Said, voice: wire.Voice) -> bool:
    say = _say(parse_address(voice.address), voice)
    return (said.stage, said.term, said.conflict, said.reason) != (say.stage, say.term, say.conflict, say.reason)


def _say(address: Address, voice: wire.Voice) -> Say:
    conflict, reason = voice.conflict[:LONGEST_REASON], voice.reason[:LONGEST_REASON]
    if voice.speaking or voice.asking:
        return Say(address, voice.term, Stage.SPEAKING if voice.speaking else Stage.PROBING, conflict)
    return Say(address, voice.term, Stage.SILENT, conflict, reason or "it does not say why", failed=True)


class Told:
    """What every node is to announce. One for each process: a look counts until the listener hears of a change, and all share it."""

    def __init__(self, database: Database, listener: Listener) -> None:
        self._database = database
        self._listener = listener
        self._turn = asyncio.Lock()
        self._ticket: asyncio.Future[None] | None = None
        self._found: Mapping[int, list[wire.Announce]] = {}

    async def of(self, node_id: int) -> list[wire.Announce]:
        """By address. Raises DatabaseUnavailable."""
        if not self._counts():
            async with self._turn:
                if not self._counts():
                    await self._look()
        return self._found.get(node_id, [])

    def _counts(self) -> bool:
        return self._ticket is not None and not self._ticket.done() and self._listener.connected

    async def _look(self) -> None:
        ticket = self._listener.ticket(ANNOUNCE_CHANNEL)
        async with self._database.look() as tx:
            rows = await voice_rows.told(tx)
        found: dict[int, list[wire.Announce]] = {}
        for each in rows:
            found.setdefault(each.node_id, []).append(wire.Announce(address=str(each.address), term=each.term))
        self._found, self._ticket = found, ticket
