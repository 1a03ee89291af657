"""What must hold in central blocks at any time, checked by a query that knows nothing of how the writer works."""

from tests.support.writing import Site


async def broken(here: Site) -> list[str]:
    """Addresses of central blocks that are not exactly one of held, spare, reserved and not yet reached. There must be none."""
    rows = await here.sql.fetch(CHECK)
    return [str(dict(row)) for row in rows]


CHECK = """
with place as (
  select b.prefix_id, b.cidr, a.address, s.central_block, s.next_address, p.scope,
    is_assignable_1(p, q.skip_ends, a.address) as assignable,
    exists (select from allocation x where x.scope = p.scope and (x.address4 = a.address or x.address6 = a.address)) as held,
    exists (select from spare y where y.prefix_id = p.id and y.address = a.address) as spare,
    b.cidr is not distinct from s.central_block and a.address >= s.next_address as beyond
  from block b join prefix p on p.id = b.prefix_id join pool q on q.id = p.pool_id left join supply s on s.prefix_id = p.id
  cross join lateral (select set_masklen(b.cidr::inet, case family(b.cidr) when 4 then 32 else 128 end) + i as address
    from generate_series(0, (1 << (case family(b.cidr) when 4 then 32 else 128 end - p.block_len)) - 1) i) a
  where b.state = 'central'
)
select * from place where case when assignable then held::int + spare::int + beyond::int <> 1 else held or (spare and beyond) end
"""
