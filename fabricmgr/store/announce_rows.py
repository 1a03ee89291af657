"""Who announces addresses of Services: what was decided, what nodes said, and what decides it. All ages are by the database's clock."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_interface
from math import inf
from typing import Any

from sqlalchemy import Float, Integer, Row, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from fabricmgr.domain.addresses import Address, Prefix
from fabricmgr.domain.election import EXCLUDED, LOUD_FOR, Candidate, Stage, Standing, Word
from fabricmgr.store.tx import Tx
from fabricmgr.store.wake import ANNOUNCE_STATEMENT, VOICE_STATEMENT

Place = tuple[int, Address]
"""A cluster's id and an address there."""


@dataclass(frozen=True)
class Served:
    """A Service that uses an address. endpoints: Nodes with a ready one, where its traffic policy is Local."""

    cluster: str
    namespace: str
    name: str
    endpoints: frozenset[str] | None


_AGE = "extract(epoch from clock_timestamp() - {})::float8"

_STANDINGS = text("select cluster_id, address, node_id, term, state, conflict, successor_id, reason from announcement order by 1, 2")
_WORDS = text(f"""
    select cluster_id, address, node_id, term, stage, conflict, reason, {_AGE.format("told_at")} as told,
      {_AGE.format("failed_at")} as failed
    from voice
""")
_NODES = text(f"""
    with shown as (select cluster_id, state ->> 'system' as system, min(name) as kube from workload where kind = 'Node' group by 1, 2)
    select n.id, n.cluster_id, n.name, n.interfaces, coalesce(k.name, n.name) as kube, coalesce(k.ready, true) as ready,
      coalesce(k.labels, n.labels) ? '{EXCLUDED}' as excluded, n.faults <> '{{}}' as faulty, n.state = 'enrolled' as alive,
      {_AGE.format("b.beat_at")} as beat
    from node n left join announcer b on b.node_id = n.id
    left join shown s on s.cluster_id = n.cluster_id and s.system = n.name
    left join kube_node k on k.cluster_id = n.cluster_id and k.name = coalesce(s.kube, n.name)
    where n.cluster_id in (select cluster_id from announcement) and n.state in ('enrolled', 'suspect')
""")
_WANTED = text("""
    select s.cluster_id, c.name as cluster, h.address, s.namespace, s.name, s.wanted ->> 'traffic' = 'Local' as local, s.endpoints
    from service s join cluster c on c.id = s.cluster_id
    join allocation a on a.owner = any (array[s.owner, case s.state when 'moving' then s.former end]) and a.released_at is null
    cross join lateral (values (a.address4), (a.address6)) h (address)
    where s.state <> 'withdrawing' and h.address is not null order by s.namespace, s.name
""")


@dataclass(frozen=True)
class Picture:
    """All that elections look at, as of one moment. wanted: the Services of each address that is to be announced."""

    standings: Mapping[Place, Standing]
    words: Mapping[Place, Mapping[int, Word]]
    nodes: Mapping[int, Mapping[int, Candidate]]
    wanted: Mapping[Place, Sequence[Served]]


async def picture(tx: Tx) -> Picture:
    """What was decided comes first: who withdraws an address counts its term on, so that a decision on what was wanted before is void."""
    standings = {(row.cluster_id, row.address): _standing(row) for row in await tx.all(_STANDINGS)}
    if not standings:
        return Picture({}, {}, {}, {})
    wanted: dict[Place, list[Served]] = {}
    for row in await tx.all(_WANTED):
        served = Served(row.cluster, row.namespace, row.name, frozenset(row.endpoints) if row.local else None)
        wanted.setdefault((row.cluster_id, row.address), []).append(served)
    words: dict[Place, dict[int, Word]] = {}
    for row in await tx.all(_WORDS):
        words.setdefault((row.cluster_id, row.address), {})[row.node_id] = _word(row)
    nodes: dict[int, dict[int, Candidate]] = {}
    for row in await tx.all(_NODES):
        nodes.setdefault(row.cluster_id, {})[row.id] = _candidate(row)
    return Picture(standings, words, nodes, wanted)


def _standing(row: Row[Any]) -> Standing:
    return Standing(row.address, row.term, row.node_id, row.successor_id, row.state, row.conflict, row.reason)


def _word(row: Row[Any]) -> Word:
    return Word(Stage(row.stage), row.term, row.conflict, row.reason, row.told, inf if row.failed is None else row.failed)


def _candidate(row: Row[Any]) -> Candidate:
    up = [each for each in row.interfaces if each.get("up")]
    return Candidate(
        row.id,
        row.name,
        row.kube,
        tuple(_prefix(text) for each in up for text in each.get("addresses", ())),
        frozenset(each.get("mac", "") for each in row.interfaces),
        row.alive,
        row.ready,
        row.faulty,
        row.excluded,
        inf if row.beat is None else row.beat,
    )


def _prefix(text: str) -> Prefix:
    return ip_interface(text).network


# --- decisions ---------------------------------------------------------------------------------------------------------------

_DECIDE = text("""
    update announcement a set node_id = d.node, successor_id = d.successor, term = d.term, state = d.state, conflict = d.conflict,
      reason = d.reason, since = case when a.node_id is distinct from d.node then clock_timestamp() else a.since end
    from jsonb_to_recordset(:rows) as d (cluster int, address inet, node int, successor int, term bigint, state text, conflict text,
      reason text, old_term bigint, old_node int, old_successor int)
    where a.cluster_id = d.cluster and a.address = d.address and a.term = d.old_term
      and a.node_id is not distinct from d.old_node and a.successor_id is not distinct from d.old_successor
    returning a.cluster_id, a.address
""").bindparams(bindparam("rows", type_=JSONB))
_TELL = text("""
    insert into voice as v (cluster_id, address, node_id, term, stage, told_at)
    select cluster, address, node, term, 'told', clock_timestamp()
    from jsonb_to_recordset(:rows) as d (cluster int, address inet, node int, term bigint)
    on conflict (cluster_id, address, node_id) do update set term = excluded.term, stage = 'told', told_at = excluded.told_at,
      conflict = '', reason = ''
""").bindparams(bindparam("rows", type_=JSONB))
_FORGET_WORDS = text("""
    delete from voice v using (
      select v.cluster_id, v.address, v.node_id from voice v
      left join announcement a on a.cluster_id = v.cluster_id and a.address = v.address
      left join announcer b on b.node_id = v.node_id
      where (a.address is null or (a.node_id is distinct from v.node_id and a.successor_id is distinct from v.node_id))
        and case when v.stage = 'silent' then greatest(v.failed_at, v.told_at) else greatest(b.beat_at, v.told_at) end
          < clock_timestamp() - make_interval(secs => :loud)
    ) d where v.cluster_id = d.cluster_id and v.address = d.address and v.node_id = d.node_id
""").bindparams(bindparam("loud", type_=Float))
_FORGET = text("""
    delete from announcement a using jsonb_to_recordset(:rows) as d (cluster int, address inet)
    where a.cluster_id = d.cluster and a.address = d.address and a.node_id is null and a.successor_id is null
""").bindparams(bindparam("rows", type_=JSONB))


async def decide(tx: Tx, decisions: Mapping[Place, tuple[Standing, Standing]]) -> set[Place]:
    """From what each was to what each is to be; those that were something else by now are left. Gives back which were changed."""
    rows = [_decision(cluster, address, *change) for (cluster, address), change in decisions.items()]
    return {(row.cluster_id, row.address) for row in await tx.all(_DECIDE, {"rows": rows})}


def _decision(cluster: int, address: Address, before: Standing, after: Standing) -> dict[str, object]:
    return {
        "cluster": cluster,
        "address": str(address),
        "node": after.holder,
        "successor": after.successor,
        "term": after.term,
        "state": after.state,
        "conflict": after.conflict,
        "reason": after.reason,
        "old_term": before.term,
        "old_node": before.holder,
        "old_successor": before.successor,
    }


async def tell(tx: Tx, told: Iterable[tuple[Place, int, int]]) -> None:
    """Place, node and term: who is to announce it from now. Workers that agents wait at are woken when this commits."""
    rows = [{"cluster": place[0], "address": str(place[1]), "node": node, "term": term} for place, node, term in told]
    if rows:
        await tx.change(_TELL, {"rows": rows})
    await tx.all(ANNOUNCE_STATEMENT)


async def forget_words(tx: Tx) -> int:
    """Of nodes that have no part in an address any more and fell silent, or were not heard for so long."""
    return await tx.change(_FORGET_WORDS, {"loud": LOUD_FOR})


async def forget(tx: Tx, places: Iterable[Place]) -> None:
    """Addresses that nobody wants announced and nobody announces."""
    rows = [{"cluster": cluster, "address": str(address)} for cluster, address in places]
    if rows:
        await tx.change(_FORGET, {"rows": rows})


async def wake(tx: Tx) -> None:
    """Something that elections look at has changed."""
    await tx.all(VOICE_STATEMENT)


# --- what Services do ------------------------------------------------------------------------------------------------------------

_ANNOUNCE = text("""
    insert into announcement (cluster_id, address, since) select :cluster, address, clock_timestamp()
    from unnest(cast(:addresses as inet[])) address on conflict do nothing
""").bindparams(bindparam("cluster", type_=Integer), bindparam("addresses", type_=ARRAY(Text)))
_WITHDRAW = text("""
    update announcement set node_id = null, successor_id = null, term = term + 1, state = 'unassigned', conflict = '', reason = '',
      since = clock_timestamp()
    where cluster_id = :cluster and address = any (cast(:addresses as inet[]))
""").bindparams(bindparam("cluster", type_=Integer), bindparam("addresses", type_=ARRAY(Text)))
_LOUD = """
    select from voice v left join announcer b on b.node_id = v.node_id
    where v.cluster_id = :cluster and v.address = any (cast(:addresses as inet[])) and v.stage <> 'silent'
      and greatest(b.beat_at, v.told_at) > clock_timestamp() - make_interval(secs => :loud)
"""
_NAMED = """
    select from announcement where cluster_id = :cluster and address = any (cast(:addresses as inet[])) and node_id is not null
"""
_AWAITED = """
    select from announcement where cluster_id = :cluster and address = any (cast(:addresses as inet[])) and state <> 'speaking'
      and reason = '' and conflict = ''
"""
_HEARD = text(f"select exists ({_LOUD}) or exists ({_NAMED})").bindparams(
    bindparam("cluster", type_=Integer), bindparam("addresses", type_=ARRAY(Text)), bindparam("loud", type_=Float)
)
_PENDING = text(f"select exists ({_AWAITED})").bindparams(bindparam("cluster", type_=Integer), bindparam("addresses", type_=ARRAY(Text)))
_SHOWN = text("""
    select a.address, coalesce(n.name, '') as node, a.state, a.conflict, a.reason, a.since, case when a.conflict = '' then '' else
      coalesce((select min(o.name) from node o where o.cluster_id = a.cluster_id and o.interfaces @> jsonb_build_array(
        jsonb_build_object('mac', a.conflict))), '') end as other
    from announcement a left join node n on n.id = a.node_id
    where a.cluster_id = :cluster and a.address = any (cast(:addresses as inet[])) order by family(a.address), a.address
""").bindparams(bindparam("cluster", type_=Integer), bindparam("addresses", type_=ARRAY(Text)))


@dataclass(frozen=True)
class Announcement:
    """What becomes of an address. node: that is to announce it, or nothing. state: unassigned, probing or speaking.

    conflict: MAC of who else answers; other: the node that has it. reason: why it is not as it should be, for people."""

    address: Address
    node: str = ""
    state: str = "unassigned"
    conflict: str = ""
    other: str = ""
    reason: str = ""
    since: datetime | None = None


async def announce(tx: Tx, cluster_id: int, addresses: Iterable[Address]) -> None:
    """They are to be announced: somebody is chosen after this commits. Again changes nothing."""
    if await tx.change(_ANNOUNCE, {"cluster": cluster_id, "addresses": _texts(addresses)}):
        await wake(tx)


async def withdraw(tx: Tx, cluster_id: int, addresses: Iterable[Address]) -> None:
    """Nobody is to announce them from now, and what somebody decides meanwhile is void. Agents learn of it when this commits."""
    if await tx.change(_WITHDRAW, {"cluster": cluster_id, "addresses": _texts(addresses)}):
        await tx.all(ANNOUNCE_STATEMENT)
        await wake(tx)


async def heard(tx: Tx, cluster_id: int, addresses: Iterable[Address]) -> bool:
    """Whether a node is to answer for one of them, or may still do: it has not said that it fell silent, and was heard lately."""
    return bool(await tx.value(_HEARD, {"cluster": cluster_id, "addresses": _texts(addresses), "loud": LOUD_FOR}))


async def awaited(tx: Tx, cluster_id: int, addresses: Iterable[Address]) -> bool:
    """Whether one of them is not announced, and nothing is known to stand in the way."""
    return bool(await tx.value(_PENDING, {"cluster": cluster_id, "addresses": _texts(addresses)}))


async def shown(tx: Tx, cluster_id: int, addresses: Iterable[Address]) -> tuple[Announcement, ...]:
    """Of those that are to be announced, IPv4 first."""
    rows = await tx.all(_SHOWN, {"cluster": cluster_id, "addresses": _texts(addresses)})
    return tuple(Announcement(row.address, row.node, row.state, row.conflict, row.other, row.reason, row.since) for row in rows)


_SAID = text("""
    select s.namespace, s.name, a.address, coalesce(n.name, '') as node, a.state, a.conflict, a.reason
    from service s join allocation h on h.owner = s.owner and h.released_at is null
    join announcement a on a.cluster_id = s.cluster_id and a.address in (h.address4, h.address6)
    left join node n on n.id = a.node_id where s.cluster_id = :cluster
""").bindparams(bindparam("cluster", type_=Integer))

Digest = frozenset[tuple[Address, str, str, str, str]]
"""What people are told of a Service's addresses."""


def digest(found: Iterable[Announcement]) -> Digest:
    """Changes with what becomes of addresses."""
    return frozenset((each.address, each.node, each.state, each.conflict, each.reason) for each in found)


async def digests(tx: Tx, cluster_id: int) -> dict[tuple[str, str], Digest]:
    """Of all Services of a cluster that have addresses, by namespace and name."""
    found: dict[tuple[str, str], set[tuple[Address, str, str, str, str]]] = {}
    for row in await tx.all(_SAID, {"cluster": cluster_id}):
        found.setdefault((row.namespace, row.name), set()).add((row.address, row.node, row.state, row.conflict, row.reason))
    return {key: frozenset(each) for key, each in found.items()}


def _texts(addresses: Iterable[Address]) -> list[str]:
    return [str(each) for each in addresses]
