-- Thresholds that a family of a pool has crossed, so that each is told once, whoever leads.
create table pool_mark (
  pool_id int not null references pool on delete cascade,
  family int not null check (family in (4, 6)),
  mark int not null check (mark between 1 and 100),
  since timestamptz not null,
  primary key (pool_id, family, mark)
);

-- Central blocks that nodes could claim, and of which every address waits and has rested: unclaimed again. How many there were, at most `most`.
-- Not the block the writer is at, not one that is large, and none of the last sixteenth of a prefix, which nodes never claim.
create function empty_central_1(now timestamptz, most int) returns int language plpgsql as $$
declare
  met record;
  p prefix;
  q pool;
  wide int;
  waiting int;
  wanted int;
  last_ bigint;
  done int := 0;
begin
  for met in
    select b.prefix_id, b.cidr
    from block b join prefix x on x.id = b.prefix_id join pool y on y.id = x.pool_id left join supply s on s.prefix_id = x.id
    cross join lateral (select case family(b.cidr) when 4 then 32 else 128 end as w) z
    where b.state = 'central' and not x.central and b.cidr is distinct from s.central_block and w - b.len <= 12
      and set_masklen(broadcast(b.cidr), w) < tail_1(x)
      and not exists (select from spare r where r.prefix_id = x.id and r.released_at + y.cooldown > now
        and r.address between set_masklen(b.cidr::inet, w) and set_masklen(broadcast(b.cidr), w))
      and not exists (select from allocation a where a.scope = b.scope and family(b.cidr) = 4
        and a.address4 between set_masklen(b.cidr::inet, w) and set_masklen(broadcast(b.cidr), w))
      and not exists (select from allocation a where a.scope = b.scope and family(b.cidr) = 6
        and a.address6 between set_masklen(b.cidr::inet, w) and set_masklen(broadcast(b.cidr), w))
    order by b.prefix_id, b.cidr limit most
  loop
    select * into p from prefix x where x.id = met.prefix_id;
    select * into q from pool x where x.id = p.pool_id;
    wide := case family(p.cidr) when 4 then 32 else 128 end;
    perform lock_supply_1(p.id);
    perform from block b where b.prefix_id = p.id and b.cidr = met.cidr and b.state = 'central'
      and b.cidr is distinct from (select s.central_block from supply s where s.prefix_id = p.id) for update;
    continue when not found;
    -- What another transaction has in its hands is locked: then the block is not complete, and waits for the next pass.
    select count(*) filter (where is_assignable_1(p, q.skip_ends, r.address)), max(r.generation) into waiting, last_ from (
      select r.address, r.generation from spare r where r.prefix_id = p.id and r.released_at + q.cooldown <= now
        and r.address between set_masklen(met.cidr::inet, wide) and set_masklen(broadcast(met.cidr), wide)
      for update skip locked) r;
    select count(*) into wanted from generate_series(0, (1 << (wide - p.block_len)) - 1) i
      where is_assignable_1(p, q.skip_ends, set_masklen(met.cidr::inet, wide) + i);
    continue when waiting < wanted;
    delete from spare r where r.prefix_id = p.id
      and r.address between set_masklen(met.cidr::inet, wide) and set_masklen(broadcast(met.cidr), wide);
    update block b set state = 'unclaimed', since = now, rested_at = now, generation = greatest(b.generation, coalesce(last_, 0))
      where b.prefix_id = p.id and b.cidr = met.cidr;
    done := done + 1;
  end loop;
  return done;
end $$;
