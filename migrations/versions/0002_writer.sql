-- What the writer calls: one function, one transaction, one round trip a batch. A function's name carries its version, so that an older
-- manager on the same database goes on calling its own.

-- The first stretch of addresses at or after `start` that may be handed out, up to `stop`. Obstacles are reservations, the gateway and, where
-- `ends` says so, the first and last address of the prefix (not of so short ones that nothing would be left: RFC 3021, RFC 6164).
create function free_run_1(p prefix, ends boolean, start inet, stop inet, out first inet, out last inet) language plpgsql stable as $$
declare
  wide constant int := case family(p.cidr) when 4 then 32 else 128 end;
  met_first inet;
  met_last inet;
begin
  first := start;
  loop
    if first is null or first > stop then
      first := null;
      return;
    end if;
    select o.a, o.z into met_first, met_last from (
      select set_masklen(r.cidr::inet, wide) as a, set_masklen(broadcast(r.cidr), wide) as z from reservation r where r.prefix_id = p.id
      union all
      select set_masklen(p.gateway, wide), set_masklen(p.gateway, wide) where p.gateway is not null
      union all
      select set_masklen(e.end_, wide), set_masklen(e.end_, wide) from (values (p.cidr::inet), (broadcast(p.cidr))) e (end_)
      where ends and masklen(p.cidr) < wide - 1
    ) o where o.z >= first order by o.a, o.z desc limit 1;
    if met_first is null or met_first > stop then
      last := stop;
      return;
    elsif met_first > first then
      last := met_first - 1;
      return;
    elsif met_last >= stop then
      first := null;
      return;
    end if;
    first := met_last + 1;
  end loop;
end $$;

-- Whether one address may be handed out at all.
create function is_assignable_1(p prefix, ends boolean, address inet) returns boolean language sql stable as $$
  select first is not null from free_run_1(p, ends, address, address)
$$;

-- The first block at or after `start` that has no row and is not wholly reserved, its last address not beyond `stop`. Walks from obstacle to
-- obstacle: never over a pool.
create function next_block_1(p prefix, ends boolean, start inet, stop inet) returns cidr language plpgsql stable as $$
declare
  wide constant int := case family(p.cidr) when 4 then 32 else 128 end;
  at_ inet := start;
  found_ cidr;
  end_ inet;
begin
  loop
    at_ := (free_run_1(p, ends, at_, stop)).first;
    if at_ is null then
      return null;
    end if;
    found_ := network(set_masklen(at_, p.block_len));
    end_ := set_masklen(broadcast(found_), wide);
    if end_ > stop then
      return null;
    end if;
    if not exists (select from block b where b.prefix_id = p.id and b.cidr = found_) then
      return found_;
    end if;
    if end_ >= stop then
      return null;
    end if;
    at_ := end_ + 1;
  end loop;
end $$;

-- Lock the cursor of a prefix, in a statement of its own: what is read after it is what the last holder of the lock wrote.
create function lock_supply_1(wanted int) returns void language plpgsql as $$
begin
  perform from supply s where s.prefix_id = wanted for update;
  if not found then
    insert into supply (prefix_id) values (wanted) on conflict do nothing;
    perform from supply s where s.prefix_id = wanted for update;
  end if;
end $$;

-- Where the walk over a prefix's blocks goes on; null when it came to the end, which is stored as an address with mask 0.
create function walk_from_1(p prefix, next_block inet) returns inet language sql immutable as $$
  select case when masklen(next_block) = 0 then null
    else coalesce(next_block, set_masklen(p.cidr::inet, case family(p.cidr) when 4 then 32 else 128 end)) end
$$;
create function walk_after_1(p prefix, taken cidr) returns inet language sql immutable as $$
  select case when taken is null or broadcast(taken) = set_masklen(broadcast(p.cidr), masklen(taken))
    then set_masklen(network(p.cidr)::inet, 0)
    else set_masklen(broadcast(taken), case family(taken) when 4 then 32 else 128 end) + 1 end
$$;

-- One more block for the writer itself: the walk first, then what nodes gave back. The cursor must be locked. Null: there is none.
create function central_block_1(p prefix, ends boolean, now timestamptz, inout walk inet, out taken cidr) language plpgsql as $$
declare
  wide constant int := case family(p.cidr) when 4 then 32 else 128 end;
begin
  if walk_from_1(p, walk) is not null then
    taken := next_block_1(p, ends, walk_from_1(p, walk), set_masklen(broadcast(p.cidr), wide));
    walk := walk_after_1(p, taken);
  end if;
  if taken is not null then
    insert into block (prefix_id, cidr, len, scope, state, claim, since) values (p.id, taken, p.block_len, p.scope, 'central', 1, now);
    return;
  end if;
  update block b set state = 'central', claim = b.claim + 1, since = now, rested_at = null
  where b.prefix_id = p.id and b.cidr = (
    select u.cidr from block u where u.prefix_id = p.id and u.state = 'unclaimed' and u.rested_at <= now
      and (free_run_1(p, ends, set_masklen(u.cidr::inet, wide), set_masklen(broadcast(u.cidr), wide))).first is not null
    order by u.rested_at, u.cidr limit 1)
  returning b.cidr into taken;
end $$;

-- Up to n addresses of a prefix that nobody ever had from its present central blocks, by the cursor.
create function take_fresh_1(p prefix, ends boolean, n int, now timestamptz) returns table (address inet, generation bigint)
language plpgsql as $$
declare
  wide constant int := case family(p.cidr) when 4 then 32 else 128 end;
  left_ int := n;
  step int;
  base bigint;
  before supply;
  cur supply;
  run record;
begin
  perform lock_supply_1(p.id);
  select * into cur from supply s where s.prefix_id = p.id;
  before := cur;
  while left_ > 0 loop
    if cur.central_block is null then
      select c.walk, c.taken into cur.next_block, cur.central_block from central_block_1(p, ends, now, cur.next_block) c;
      exit when cur.central_block is null;
      cur.next_address := set_masklen(cur.central_block::inet, wide);
    end if;
    select * into run from free_run_1(p, ends, cur.next_address, set_masklen(broadcast(cur.central_block), wide));
    if run.first is null then
      cur.central_block := null;
      cur.next_address := null;
      continue;
    end if;
    select b.generation into base from block b where b.prefix_id = p.id and b.cidr = cur.central_block;
    step := least(left_, run.last - run.first + 1);
    return query select run.first + i, base + 1 from generate_series(0, step - 1) i;
    left_ := left_ - step;
    if run.first + (step - 1) = set_masklen(broadcast(cur.central_block), wide) then
      cur.central_block := null;
      cur.next_address := null;
    else
      cur.next_address := run.first + step;
    end if;
  end loop;
  if cur is distinct from before then
    update supply s set next_block = cur.next_block, central_block = cur.central_block, next_address = cur.next_address where s.prefix_id = p.id;
  end if;
end $$;

-- Up to n spares of a pool and family that were released at `due` or before, oldest first. Nobody ever waits for a spare: what is locked is
-- being handed out.
create function take_spares_1(wanted int, fam int, n int, due timestamptz) returns table (
  prefix_id int, address inet, generation bigint, released_at timestamptz, last_owner uuid)
language plpgsql as $$
#variable_conflict use_column
begin
  return query with picked as materialized (
    select s.id, s.released_at, s.address from prefix p cross join lateral (
      select s.ctid as id, s.released_at, s.address from spare s where s.prefix_id = p.id and s.released_at <= due
        and not exists (select from reservation r where r.prefix_id = p.id and s.address <<= r.cidr)
      order by s.released_at, s.address limit n for update skip locked) s
    where p.pool_id = wanted and family(p.cidr) = fam
    order by s.released_at, s.address limit n
  ), gone as (
    delete from spare s where s.ctid = any (array(select id from picked))
    returning s.prefix_id, s.address, s.generation, s.released_at, s.last_owner
  )
  select g.prefix_id, g.address, g.generation, g.released_at, g.last_owner from gone g order by g.released_at, g.address;
end $$;

-- Up to n addresses of a pool and family: rested spares, then the cursor, then (where the pool allows it) spares that still cool.
create function take_1(p_pool pool, fam int, n int, now timestamptz) returns table (
  prefix_id int, address inet, generation bigint, released_at timestamptz, last_owner uuid, early boolean)
language plpgsql as $$
declare
  left_ int := n;
  got int;
  p prefix;
begin
  if p_pool.draining then
    return;
  end if;
  return query select s.prefix_id, s.address, s.generation + 1, s.released_at, s.last_owner, false
    from take_spares_1(p_pool.id, fam, left_, now - p_pool.cooldown) s;
  get diagnostics got = row_count;
  left_ := left_ - got;
  if left_ = 0 then
    return;
  end if;
  for p in select * from prefix x where x.pool_id = p_pool.id and family(x.cidr) = fam order by x.id loop
    return query select p.id, f.address, f.generation, 'epoch'::timestamptz, null::uuid, false
      from take_fresh_1(p, p_pool.skip_ends, left_, now) f;
    get diagnostics got = row_count;
    left_ := left_ - got;
    exit when left_ = 0;
  end loop;
  if left_ > 0 and p_pool.reuse_early then
    return query select s.prefix_id, s.address, s.generation + 1, s.released_at, s.last_owner, true
      from take_spares_1(p_pool.id, fam, left_, now) s;
  end if;
end $$;

-- Give each owner an address of each wanted family, all of them or none; who holds some already is told what it holds. Owners come sorted and
-- without doubles. An owner that is missing from the result found nothing. `early`: an address that had not rested. serials: of certificates,
-- where a node asks: what is revoked, or of a node that is gone, gets nothing and is told so by the kind `barred`.
create function allocate_batch_1(
  pool4 int, pool6 int, now timestamptz,
  owners uuid[], kinds text[], cluster_ids int[], node_ids int[], networks text[], containers text[], ifnames text[], names text[],
  macs text[], abouts jsonb[], actors text[], labels text[], nodes text[], serials text[]
) returns table (
  owner uuid, address4 inet, generation4 bigint, address6 inet, generation6 bigint, made boolean, early boolean, released_at timestamptz,
  kind text, node_id int, network text, container_id text, ifname text, name text)
language plpgsql 
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  n int := cardinality(owners);
  k int;
  keep int[];
  q4 pool;
  q6 pool;
  p4 int[]; a4 inet[]; g4 bigint[]; r4 timestamptz[]; l4 uuid[]; e4 boolean[];
  p6 int[]; a6 inet[]; g6 bigint[]; r6 timestamptz[]; l6 uuid[]; e6 boolean[];
  places int[];
  unserved uuid[];
  barred int[] := '{}';
begin
  perform from pool p where p.id in (pool4, pool6) order by p.id for key share;
  if num_nonnulls(variadic serials) > 0 then
    perform from node d where d.id = any (node_ids) order by d.id for key share;
    barred := array(select i from unnest(serials, node_ids) with ordinality u (serial, node, i) where u.serial is not null and not exists (
      select from certificate c join node d on d.id = c.node_id
      where c.serial = u.serial and c.node_id = u.node and c.revoked_at is null and d.state <> 'gone'));
  end if;
  -- Who holds some already takes none out of the others' reach, not even for a moment.
  unserved := array(select a.owner from allocation a where a.owner = any (owners));
  if cardinality(unserved) + cardinality(barred) > 0 then
    return query select owners[i], null::inet, null::bigint, null::inet, null::bigint, false, false, null::timestamptz, 'barred',
      null::int, null, null, null, null from unnest(barred) i;
    keep := array(select i from generate_series(1, n) i where owners[i] <> all (unserved) and i <> all (barred));
    unserved := array(select owners[i] from generate_series(1, n) i where owners[i] = any (unserved) and i <> all (barred));
    return query select a.owner, a.address4, a.generation4, a.address6, a.generation6, false, false, a.released_at, a.kind, a.node_id, a.network,
      a.container_id, a.ifname, a.name from allocation a where a.owner = any (unserved);
    n := cardinality(keep);
    if n = 0 then
      return;
    end if;
    select array_agg(owners[i] order by k), array_agg(kinds[i] order by k), array_agg(cluster_ids[i] order by k), array_agg(node_ids[i] order by k),
      array_agg(networks[i] order by k), array_agg(containers[i] order by k), array_agg(ifnames[i] order by k), array_agg(names[i] order by k),
      array_agg(macs[i] order by k), array_agg(abouts[i] order by k), array_agg(actors[i] order by k), array_agg(labels[i] order by k),
      array_agg(nodes[i] order by k)
    into owners, kinds, cluster_ids, node_ids, networks, containers, ifnames, names, macs, abouts, actors, labels, nodes
    from unnest(keep) with ordinality u (i, k);
  end if;
  k := n;
  select * into q4 from pool p where p.id = pool4;
  select * into q6 from pool p where p.id = pool6;
  if pool4 is not null then
    select array_agg(t.prefix_id), array_agg(t.address), array_agg(t.generation), array_agg(t.released_at), array_agg(t.last_owner),
      array_agg(t.early) into p4, a4, g4, r4, l4, e4 from take_1(q4, 4, n, now) t;
    k := least(k, coalesce(cardinality(a4), 0));
  end if;
  if pool6 is not null then
    select array_agg(t.prefix_id), array_agg(t.address), array_agg(t.generation), array_agg(t.released_at), array_agg(t.last_owner),
      array_agg(t.early) into p6, a6, g6, r6, l6, e6 from take_1(q6, 6, k, now) t;
    k := least(k, coalesce(cardinality(a6), 0));
  end if;

  with new as (
    insert into allocation as a (owner, scope, prefix4, address4, generation4, prefix6, address6, generation6, kind, cluster_id, node_id,
      network, container_id, ifname, name, mac, about, at)
    select u.owner, coalesce(q4.scope, q6.scope), u.p4, u.a4, u.g4, u.p6, u.a6, u.g6, u.kind, u.cluster_id, u.node_id, u.network, u.container, u.ifname,
      u.name, u.mac, u.about, now
    from unnest(owners, p4, a4, g4, p6, a6, g6, kinds, cluster_ids, node_ids, networks, containers, ifnames, names, macs, abouts) with ordinality
      u (owner, p4, a4, g4, p6, a6, g6, kind, cluster_id, node_id, network, container, ifname, name, mac, about, i)
    where u.i <= k order by u.i
    on conflict (owner) do nothing
    returning array_position(owners, a.owner) as place, a.owner, a.scope, a.address4, a.generation4, a.address6, a.generation6, a.node_id, a.about
  ), half as (
    select w.owner, w.scope, h.address, h.generation, h.pool, w.node_id, w.about, actors[place] as actor, labels[place] as label, nodes[place] as node
    from new w cross join lateral (values (w.address4, w.generation4, q4.name), (w.address6, w.generation6, q6.name)) h (address, generation, pool)
    where h.address is not null
  ), kept as (
    insert into history (at, what, owner, scope, address, generation, node_id, actor, detail)
    select now, 'assigned', h.owner, h.scope, h.address, h.generation, h.node_id, h.actor, h.about || jsonb_build_object('owner', h.label)
    from half h
  ), told as (
    insert into outbox (at, what, about)
    select now, 'AddressAllocated', jsonb_build_object('pool', h.pool, 'address', host(h.address), 'owner', h.label,
      'generation', h.generation, 'node', h.node)
    from half h
  )
  select array_agg(place) into places from new;
  places := coalesce(places, '{}');
  if cardinality(places) > 0 then
    perform pg_notify('fabricmgr_outbox', '');
  end if;

  if cardinality(places) < greatest(cardinality(a4), cardinality(a6)) then
    insert into spare (prefix_id, released_at, address, generation, last_owner)
    select u.prefix_id, u.released_at, u.address, u.generation - 1, u.last_owner
    from unnest(p4, a4, g4, r4, l4) with ordinality u (prefix_id, address, generation, released_at, last_owner, i) where i <> all (places)
    union all
    select u.prefix_id, u.released_at, u.address, u.generation - 1, u.last_owner
    from unnest(p6, a6, g6, r6, l6) with ordinality u (prefix_id, address, generation, released_at, last_owner, i) where i <> all (places);
  end if;

  return query select owners[i], a4[i], g4[i], a6[i], g6[i], true, coalesce(e4[i], false) or coalesce(e6[i], false), null::timestamptz, kinds[i],
    node_ids[i], networks[i], containers[i], ifnames[i], names[i] from unnest(places) i;
  if cardinality(places) < n then
    unserved := array(select o from unnest(owners) with ordinality u (o, i) where i <> all (places));
    return query select a.owner, a.address4, a.generation4, a.address6, a.generation6, false, false, a.released_at, a.kind, a.node_id, a.network,
      a.container_id, a.ifname, a.name from allocation a where a.owner = any (unserved);
  end if;
end $$;

-- Addresses that nobody holds and no link carries any more: those of central blocks wait as spares from now on. Others are their agent's.
create function spare_1(now timestamptz, prefixes int[], addresses inet[], generations bigint[]) returns void language plpgsql as $$
begin
  insert into spare (prefix_id, released_at, address, generation)
  select p.id, now, u.address, u.generation
  from unnest(prefixes, addresses, generations) u (prefix_id, address, generation)
  join prefix p on p.id = u.prefix_id
  join block b on b.prefix_id = p.id and b.cidr = network(set_masklen(u.address, p.block_len)) and b.state = 'central'
  order by u.prefix_id, u.address;
end $$;

-- End allocations. `free`: no link carries their addresses (a direct client's), so they wait as spares at once; else they stay taken until
-- their node reports the link gone. generations: quoted ones, null for whatever is held; a stale one changes nothing.
create function release_batch_1(now timestamptz, owners uuid[], generations bigint[], frees boolean[], actors text[])
returns table (owner uuid, outcome text) language plpgsql 
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan as $$
declare
  ended uuid[];
  marked uuid[];
  stale uuid[];
  rows_ allocation[];
begin
  perform from allocation a where a.owner = any (owners) order by a.owner for update;
  stale := array(
    select a.owner from unnest(owners, generations) u (o, g) join allocation a on a.owner = u.o
    where u.g is not null and u.g is distinct from greatest(a.generation4, a.generation6));
  with gone as (
    delete from allocation a using unnest(owners, frees) u (o, f) where a.owner = u.o and u.f and a.owner <> all (stale) returning a
  ) select array_agg(a) into rows_ from gone;
  ended := array(select r.owner from unnest(rows_) r);
  with changed as (
    update allocation a set released_at = now from unnest(owners, frees) u (o, f)
    where a.owner = u.o and not u.f and a.released_at is null and a.owner <> all (stale) returning a
  ) select rows_ || array_agg(a) into rows_ from changed;
  marked := array(select r.owner from unnest(rows_) r where r.owner <> all (ended));
  if cardinality(rows_) > 0 then
    perform spare_1(now, array_agg(h.p), array_agg(h.a), array_agg(h.g)) from unnest(rows_) r
      cross join lateral (values (r.prefix4, r.address4, r.generation4), (r.prefix6, r.address6, r.generation6)) h (p, a, g)
      where h.a is not null and r.owner = any (ended);
    perform tell_1(now, 'released', 'AddressReleased', rows_, (select array_agg(actors[array_position(owners, r.owner)]) from unnest(rows_) r), null);
  end if;
  return query select o, case when o = any (ended) then 'freed' when o = any (marked) then 'released' when o = any (stale) then 'stale'
    else 'absent' end from unnest(owners) o;
end $$;

-- History and events of allocations, a row for each address, and one wake. `event`: null for what subscribers are not told.
create function tell_1(now timestamptz, what text, event text, rows_ allocation[], actors text[], reasons text[]) returns void
language plpgsql as $$
declare
  woken int;
begin
  with half as (
    select r.owner, r.scope, h.a, h.g, r.node_id, actors[r.ordinality] as actor, reasons[r.ordinality] as reason, r.about, q.name as pool, n.name as node,
      case r.kind when 'attachment' then format('container %s interface %s network %s node %s', r.container_id, r.ifname, r.network, n.name)
        else format('%s (pool %s)', r.name, q.name) end as label
    from unnest(rows_) with ordinality r
    cross join lateral (values (r.prefix4, r.address4, r.generation4), (r.prefix6, r.address6, r.generation6)) h (p, a, g)
    join prefix x on x.id = h.p
    join pool q on q.id = x.pool_id
    left join node n on n.id = r.node_id
  ), kept as (
    insert into history (at, what, owner, scope, address, generation, node_id, actor, detail)
    select now, what, owner, scope, a, g, node_id, actor, about || jsonb_strip_nulls(jsonb_build_object('owner', label, 'reason', reason)) from half
  ), told as (
    insert into outbox (at, what, about)
    select now, event, jsonb_build_object('pool', pool, 'address', host(a), 'owner', label, 'generation', g, 'node', node)
    from half where event is not null
    returning id
  )
  select count(*) into woken from (select pg_notify('fabricmgr_outbox', '') from (select from told limit 1) one) w;
end $$;

-- Apply numbered reports of nodes, each effective once. Reports come one for each node; changes say which report (r, from 1), and a wave:
-- what follows from another in the same report stands in a later one. Blocks and claims that are not the node's own change nothing.
create function report_batch_1(
  now timestamptz, reporters int[], serials text[], lives uuid[], numbers bigint[], ages int[], frees jsonb[],
  rs int[], waves int[], whats text[], owners uuid[], networks text[], containers text[], ifnames text[], macs text[], abouts jsonb[],
  ats timestamptz[], reasons text[], a4 inet[], g4 bigint[], b4 cidr[], c4 int[], a6 inet[], g6 bigint[], b6 cidr[], c6 int[]
) returns table (r int, outcome text, last_number bigint)
language plpgsql 
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan as $$
declare
  verdicts text[];
  lasts bigint[];
  todo int[];
begin
  perform from node n where n.id = any (reporters) order by n.id for no key update;
  select array_agg(v.verdict order by v.i), array_agg(v.last_number order by v.i) into verdicts, lasts from (
    select u.i, coalesce(t.last_number, 0) as last_number, case
      when n.id is null or n.state = 'gone' then 'gone'
      when not exists (select from certificate c where c.serial = u.serial and c.node_id = n.id and c.revoked_at is null) then 'revoked'
      when t.life is distinct from u.life then 'hello'
      when u.number <= t.last_number then 'repeated'
      when u.number > t.last_number + 1 then 'gap'
      else 'applied' end as verdict
    from unnest(reporters, serials, lives, numbers) with ordinality u (node, serial, life, number, i)
    left join node n on n.id = u.node left join report t on t.node_id = u.node) v;
  for w in 0 .. coalesce((select max(x) from unnest(waves) x), -1) loop
    todo := array(select i from unnest(rs, waves, whats) with ordinality u (x, v, k, i)
      where u.v = w and u.k = 'assigned' and verdicts[u.x] = 'applied' order by owners[i]);
    if cardinality(todo) > 0 then
      perform report_assigned_1(now, todo, reporters, rs, owners, networks, containers, ifnames, macs, abouts, ats, reasons, a4, g4, b4, c4, a6, g6, b6, c6);
    end if;
    todo := array(select i from unnest(rs, waves, whats) with ordinality u (x, v, k, i)
      where u.v = w and u.k = 'released' and verdicts[u.x] = 'applied' order by owners[i]);
    if cardinality(todo) > 0 then
      perform report_released_1(now, todo, reporters, rs, owners, ats, reasons, a4, g4, a6, g6);
    end if;
    todo := array(select i from unnest(rs, waves, whats) with ordinality u (x, v, k, i)
      where u.v = w and u.k = 'gone' and verdicts[u.x] = 'applied' order by owners[i]);
    if cardinality(todo) > 0 then
      perform report_gone_1(now, todo, reporters, rs, owners, ats, reasons, a4, g4, a6, g6);
    end if;
  end loop;
  update report t set last_number = numbers[i], at = now from generate_series(1, cardinality(reporters)) i
  where t.node_id = reporters[i] and verdicts[i] = 'applied';
  update node n set seen_at = now, report_age_ms = ages[i], free = frees[i] from generate_series(1, cardinality(reporters)) i
  where n.id = reporters[i] and verdicts[i] in ('applied', 'repeated');
  return query select i, verdicts[i], case verdicts[i] when 'applied' then numbers[i] else lasts[i] end
    from generate_series(1, cardinality(reporters)) i;
end $$;

-- A block that a node may assign in, by the claim it quotes: its prefix; null when it is not the node's, or no longer under this claim.
create function held_prefix_1(node int, quoted_block cidr, quoted_claim int, address inet) returns int language sql stable as $$
  select b.prefix_id from block b where b.node_id = node and b.cidr = quoted_block and b.claim = quoted_claim and address <<= b.cidr
    and b.state in ('confirmed', 'releasing', 'held_back')
$$;

-- An attachment that was released and whose link may still be there makes room for the same attachment made anew: its row goes on under
-- another key until the link is gone.
create function step_aside_1(leaving uuid[]) returns void language plpgsql as $$
begin
  update allocation a set owner = md5(a.owner::text || coalesce(host(a.address4), '') || coalesce(host(a.address6), '')
    || coalesce(a.generation4, 0) || ' ' || coalesce(a.generation6, 0))::uuid
  where a.owner = any (leaving) and a.released_at is not null;
end $$;

create function report_assigned_1(
  now timestamptz, todo int[], reporters int[], rs int[], owners uuid[], networks text[], containers text[], ifnames text[], macs text[],
  abouts jsonb[], ats timestamptz[], reasons text[], a4 inet[], g4 bigint[], b4 cidr[], c4 int[], a6 inet[], g6 bigint[], b6 cidr[], c6 int[]
) returns void language plpgsql as $$
declare
  p4 int[];
  p6 int[];
  good int[];
  news allocation[];
  times timestamptz[];
begin
  select array_agg(held_prefix_1(reporters[rs[i]], b4[i], c4[i], a4[i]) order by k), array_agg(held_prefix_1(reporters[rs[i]], b6[i], c6[i], a6[i]) order by k)
    into p4, p6 from unnest(todo) with ordinality u (i, k);
  good := array(select k from generate_series(1, cardinality(todo)) k where num_nonnulls(p4[k], p6[k]) > 0);
  if cardinality(good) = 0 then
    return;
  end if;
  perform step_aside_1(array(select owners[todo[k]] from unnest(good) k));
  -- Inside its block the agent is the truth: whoever else stands at the address in our copy is of the past.
  delete from allocation a using unnest(good) k where p4[k] is not null and a.address4 = a4[todo[k]] and a.prefix4 = p4[k]
    and a.scope = (select x.scope from prefix x where x.id = p4[k]) and a.owner <> owners[todo[k]];
  delete from allocation a using unnest(good) k where p6[k] is not null and a.address6 = a6[todo[k]] and a.prefix6 = p6[k]
    and a.scope = (select x.scope from prefix x where x.id = p6[k]) and a.owner <> owners[todo[k]];
  with new as (
    insert into allocation as a (owner, scope, prefix4, address4, generation4, prefix6, address6, generation6, kind, cluster_id, node_id, network,
      container_id, ifname, mac, about, at)
    select owners[i], x.scope, p4[k], case when p4[k] is not null then a4[i] end, case when p4[k] is not null then g4[i] end,
      p6[k], case when p6[k] is not null then a6[i] end, case when p6[k] is not null then g6[i] end, 'attachment', n.cluster_id, n.id, networks[i],
      containers[i], ifnames[i], macs[i], abouts[i], least(ats[i], now)
    from unnest(good) k cross join lateral (select todo[k] as i) t join node n on n.id = reporters[rs[i]]
    join prefix x on x.id = coalesce(p4[k], p6[k]) order by owners[i]
    on conflict (owner) do update set
      prefix4 = coalesce(excluded.prefix4, a.prefix4), address4 = coalesce(excluded.address4, a.address4),
      generation4 = coalesce(excluded.generation4, a.generation4), prefix6 = coalesce(excluded.prefix6, a.prefix6),
      address6 = coalesce(excluded.address6, a.address6), generation6 = coalesce(excluded.generation6, a.generation6),
      mac = excluded.mac, about = excluded.about
    where a.node_id = excluded.node_id and (
      (excluded.address4 is not null and (a.address4, a.generation4) is distinct from (excluded.address4, excluded.generation4))
      or (excluded.address6 is not null and (a.address6, a.generation6) is distinct from (excluded.address6, excluded.generation6)))
    returning a
  ) select array_agg(a) into news from new;
  if news is not null then
    perform tell_1(now, 'assigned', 'AddressAllocated', news, null, null);
  end if;
end $$;

create function report_released_1(
  now timestamptz, todo int[], reporters int[], rs int[], owners uuid[], ats timestamptz[], reasons text[], a4 inet[], g4 bigint[], a6 inet[],
  g6 bigint[]
) returns void language plpgsql as $$
declare
  rows_ allocation[];
  why text[];
begin
  with changed as (
    update allocation a set released_at = now from unnest(todo) i
    where a.owner = owners[i] and a.node_id = reporters[rs[i]] and a.released_at is null
      and ((a.address4 = a4[i] and a.generation4 = g4[i]) or (a.address6 = a6[i] and a.generation6 = g6[i]))
    returning a, reasons[i] as why
  ) select array_agg(c.a), array_agg(c.why) into rows_, why from changed c;
  if rows_ is not null then
    perform tell_1(now, 'released', 'AddressReleased', rows_, null, why);
  end if;
end $$;

create function report_gone_1(
  now timestamptz, todo int[], reporters int[], rs int[], owners uuid[], ats timestamptz[], reasons text[], a4 inet[], g4 bigint[], a6 inet[],
  g6 bigint[]
) returns void language plpgsql as $$
declare
  rows_ allocation[];
  aside allocation[];
  fresh allocation[];
begin
  with gone as (
    delete from allocation a using unnest(todo) i
    where a.owner = owners[i] and a.node_id = reporters[rs[i]]
      and ((a.address4 = a4[i] and a.generation4 = g4[i]) or (a.address6 = a6[i] and a.generation6 = g6[i]))
    returning a
  ) select array_agg(a) into rows_ from gone;
  if coalesce(cardinality(rows_), 0) < cardinality(todo) then
    -- What stepped aside has another key: it is found by its node and address.
    with gone as (
      delete from allocation a using unnest(todo) i
      where a.node_id = reporters[rs[i]] and a.released_at is not null
        and ((a.address4 = a4[i] and a.generation4 = g4[i]) or (a.address6 = a6[i] and a.generation6 = g6[i]))
      returning a
    ) select array_agg(a) into aside from gone;
    rows_ := rows_ || aside;
  end if;
  if rows_ is not null then
    perform spare_1(now, array_agg(h.p), array_agg(h.a), array_agg(h.g)) from unnest(rows_) x
      cross join lateral (values (x.prefix4, x.address4, x.generation4), (x.prefix6, x.address6, x.generation6)) h (p, a, g) where h.a is not null;
    fresh := array(select x from unnest(rows_) x where x.released_at is null);
    if cardinality(fresh) > 0 then
      perform tell_1(now, 'released', 'AddressReleased', fresh, null, null);
    end if;
    perform tell_1(now, 'gone', null, rows_, null, null);
  end if;
end $$;

-- The second family of an owner that holds one: an address of the pool, or nothing when there is none. Generation and all as in a batch.
create function add_family_1(now timestamptz, wanted uuid, pool_id int, fam int, actor text) returns boolean language plpgsql as $$
declare
  q pool;
  got record;
  done allocation[];
begin
  perform from pool p where p.id = pool_id for key share;
  select * into q from pool p where p.id = pool_id;
  select * into got from take_1(q, fam, 1, now);
  if got.address is null then
    return false;
  end if;
  with changed as (
    update allocation a set
      prefix4 = case fam when 4 then got.prefix_id else a.prefix4 end, address4 = case fam when 4 then got.address else a.address4 end,
      generation4 = case fam when 4 then got.generation else a.generation4 end,
      prefix6 = case fam when 6 then got.prefix_id else a.prefix6 end, address6 = case fam when 6 then got.address else a.address6 end,
      generation6 = case fam when 6 then got.generation else a.generation6 end
    where a.owner = wanted and a.scope = q.scope and a.released_at is null
      and case fam when 4 then a.address4 is null else a.address6 is null end
    returning a
  ) select array_agg(a) into done from changed;
  if done is null then
    insert into spare (prefix_id, released_at, address, generation, last_owner)
      values (got.prefix_id, got.released_at, got.address, got.generation - 1, got.last_owner);
    return true;
  end if;
  if fam = 4 then
    done[1].prefix6 := null; done[1].address6 := null; done[1].generation6 := null;
  else
    done[1].prefix4 := null; done[1].address4 := null; done[1].generation4 := null;
  end if;
  perform tell_1(now, 'assigned', 'AddressAllocated', done, array[actor], null);
  return true;
end $$;

-- An address that somebody holds though it waited to be handed out: take it out of the writer's hands, and tell. A defect elsewhere must
-- cost one address, not a pool.
create function hold_back_1(now timestamptz, in_scope int, taken inet) returns void language plpgsql as $$
declare
  p prefix;
  q pool;
  cur supply;
  run record;
  holder uuid;
  at_ inet;
begin
  select x.* into p from prefix x where x.scope = in_scope and taken <<= x.cidr;
  if p.id is null then
    return;
  end if;
  select x.* into q from pool x where x.id = p.pool_id;
  perform lock_supply_1(p.id);
  select * into cur from supply s where s.prefix_id = p.id;
  delete from spare s where s.prefix_id = p.id and s.address = taken;
  if cur.central_block is not null and taken <<= cur.central_block and taken >= cur.next_address then
    perform skip_to_1(p, q.skip_ends, taken, now);
  end if;
  select a.owner into holder from allocation a where a.scope = in_scope and (a.address4 = taken or a.address6 = taken);
  insert into history (at, what, owner, scope, address, actor) values (now, 'held back', holder, in_scope, taken, 'manager');
  insert into outbox (at, what, about) values (now, 'AddressConflictDetected',
    jsonb_build_object('address', host(taken), 'holder', coalesce(holder::text, ''), 'other', 'the writer, which was about to hand it out'));
  perform pg_notify('fabricmgr_outbox', '');
end $$;

-- Move the cursor past an address of its present block; what lies between is spare from then on, as if it had never been used.
create function skip_to_1(p prefix, ends boolean, target inet, now timestamptz) returns void language plpgsql as $$
declare
  wide constant int := case family(p.cidr) when 4 then 32 else 128 end;
  cur supply;
  at_ inet;
  run record;
  base bigint;
begin
  select * into cur from supply s where s.prefix_id = p.id;
  select b.generation into base from block b where b.prefix_id = p.id and b.cidr = cur.central_block;
  at_ := cur.next_address;
  while at_ < target loop
    select * into run from free_run_1(p, ends, at_, target - 1);
    exit when run.first is null;
    insert into spare (prefix_id, released_at, address, generation)
      select p.id, 'epoch', run.first + i, base from generate_series(0, run.last - run.first) i;
    at_ := run.last + 1;
  end loop;
  if target = set_masklen(broadcast(cur.central_block), wide) then
    update supply s set central_block = null, next_address = null where s.prefix_id = p.id;
  else
    update supply s set next_address = target + 1 where s.prefix_id = p.id;
  end if;
end $$;

-- Make this very address of a central or unclaimed block ready to be assigned: 'free' (with its last generation), or why not. The cursor is
-- locked until the end of the transaction.
create function reach_1(now timestamptz, wanted_prefix int, target inet, out verdict text, out generation bigint, out due timestamptz,
  out block cidr, out state text, out node_id int)
language plpgsql as $$
declare
  p prefix;
  q pool;
  b block;
  cur supply;
  s spare;
  wide int;
begin
  perform from pool x join prefix y on y.pool_id = x.id where y.id = wanted_prefix for key share of x;
  select x.* into p from prefix x where x.id = wanted_prefix;
  select x.* into q from pool x where x.id = p.pool_id;
  wide := case family(p.cidr) when 4 then 32 else 128 end;
  perform lock_supply_1(p.id);
  block := network(set_masklen(target, p.block_len));
  select x.* into b from block x where x.prefix_id = p.id and x.cidr = reach_1.block;
  state := coalesce(b.state, 'unclaimed');
  node_id := b.node_id;
  if not is_assignable_1(p, q.skip_ends, target) then
    verdict := 'reserved';
  elsif q.draining then
    verdict := 'draining';
  elsif state in ('pending', 'confirmed', 'releasing', 'held_back') then
    verdict := 'elsewhere';
  elsif state = 'unclaimed' and b.rested_at > now then
    verdict := 'cooling';
    due := b.rested_at;
  elsif state = 'unclaimed' then
    insert into block as x (prefix_id, cidr, len, scope, state, claim, since)
      values (p.id, block, p.block_len, p.scope, 'central', 1, now)
      on conflict (prefix_id, cidr) do update set state = 'central', claim = x.claim + 1, since = now, rested_at = null;
    insert into spare (prefix_id, released_at, address, generation)
      select p.id, 'epoch', a, coalesce(b.generation, 0)
      from generate_series(0, (1 << (wide - p.block_len)) - 1) i cross join lateral (select set_masklen(block::inet, wide) + i as a) c
      where a <> target and is_assignable_1(p, q.skip_ends, a);
    generation := coalesce(b.generation, 0);
    verdict := 'free';
  else
    select * into cur from supply x where x.prefix_id = p.id;
    if cur.central_block = block and target >= cur.next_address then
      perform skip_to_1(p, q.skip_ends, target, now);
      generation := b.generation;
      verdict := 'free';
      return;
    end if;
    select x.* into s from spare x where x.prefix_id = p.id and x.address = target for update skip locked;
    if not found then
      verdict := 'held';
    elsif s.released_at + q.cooldown > now then
      verdict := 'cooling';
      due := s.released_at + q.cooldown;
    else
      delete from spare x where x.prefix_id = p.id and x.address = target;
      generation := s.generation;
      verdict := 'free';
    end if;
  end if;
end $$;

-- Addresses that were kept out may be handed out again. The walk goes back to them; in blocks it is through with they wait as spares.
create function unreserved_1(now timestamptz, wanted_prefix int, back cidr) returns void language plpgsql as $$
declare
  p prefix;
  q pool;
  cur supply;
  wide int;
begin
  select x.* into p from prefix x where x.id = wanted_prefix;
  select x.* into q from pool x where x.id = p.pool_id;
  wide := case family(p.cidr) when 4 then 32 else 128 end;
  perform lock_supply_1(p.id);
  select * into cur from supply s where s.prefix_id = p.id;
  if masklen(cur.next_block) = 0 or cur.next_block > set_masklen(back::inet, wide) then
    update supply s set next_block = set_masklen(network(set_masklen(back::inet, p.block_len))::inet, wide) where s.prefix_id = p.id;
  end if;
  insert into spare (prefix_id, released_at, address, generation)
    select p.id, 'epoch', a, b.generation
    from block b cross join lateral generate_series(0, (1 << (wide - p.block_len)) - 1) i
    cross join lateral (select set_masklen(b.cidr::inet, wide) + i as a) c
    where b.prefix_id = p.id and b.state = 'central' and b.cidr && back and a <<= back and is_assignable_1(p, q.skip_ends, a)
      and not (b.cidr is not distinct from cur.central_block and a >= cur.next_address)
      and not exists (select from allocation x where x.scope = p.scope and (x.address4 = a or x.address6 = a))
    on conflict do nothing;
end $$;

-- Where the part of a prefix begins that nodes never claim: its last sixteenth. Null where it has none.
create function tail_1(p prefix) returns inet language sql immutable as $$
  select case when masklen(p.cidr) + 4 <= w then set_masklen(network(set_masklen(broadcast(p.cidr), masklen(p.cidr) + 4))::inet, w) end
  from (select case family(p.cidr) when 4 then 32 else 128 end as w) x
$$;

-- Claim blocks for a node until it holds `wanted` of a family in these pools, in their order of preference. Gives how many it holds then.
create function claim_1(now timestamptz, claimer int, pools int[], fam int, wanted int) returns int language plpgsql as $$
declare
  p prefix;
  q pool;
  cur supply;
  stop inet;
  taken cidr;
  have int;
begin
  perform from pool x where x.id = any (pools) order by x.id for key share;
  select count(*) into have from block b join prefix x on x.id = b.prefix_id
    where b.node_id = claimer and b.state in ('pending', 'confirmed') and x.pool_id = any (pools) and family(x.cidr) = fam;
  for p in select x.* from prefix x join pool y on y.id = x.pool_id
    where x.pool_id = any (pools) and family(x.cidr) = fam and not x.central and not y.draining order by array_position(pools, x.pool_id), x.id
  loop
    exit when have >= wanted;
    select * into q from pool x where x.id = p.pool_id;
    stop := tail_1(p) - 1;
    continue when stop is null;
    perform lock_supply_1(p.id);
    while have < wanted loop
      update block b set state = 'pending', node_id = claimer, claim = b.claim + 1, since = now, rested_at = null
      where b.prefix_id = p.id and b.cidr = (
        select u.cidr from block u where u.prefix_id = p.id and u.state = 'unclaimed' and u.rested_at <= now
          and set_masklen(broadcast(u.cidr), masklen(stop)) <= stop
          and (free_run_1(p, q.skip_ends, set_masklen(u.cidr::inet, masklen(stop)), set_masklen(broadcast(u.cidr), masklen(stop)))).first is not null
        order by u.rested_at, u.cidr limit 1)
      returning b.cidr into taken;
      if taken is null then
        select * into cur from supply s where s.prefix_id = p.id;
        taken := next_block_1(p, q.skip_ends, walk_from_1(p, cur.next_block), stop);
        exit when taken is null;
        insert into block (prefix_id, cidr, len, scope, state, node_id, claim, since)
          values (p.id, taken, p.block_len, p.scope, 'pending', claimer, 1, now);
        update supply s set next_block = walk_after_1(p, taken) where s.prefix_id = p.id;
      end if;
      have := have + 1;
    end loop;
  end loop;
  return have;
end $$;

-- Pools of a cluster's networks in which nodes find no block any more.
create function pressed_1(now timestamptz, in_cluster int) returns setof text language sql stable as $$
  select p.name from pool p
  where exists (select from network_pool k join network w on w.id = k.network_id where k.pool_id = p.id and w.cluster_id = in_cluster)
    and exists (select from prefix x where x.pool_id = p.id and not x.central)
    and not exists (
      select from prefix x left join supply s on s.prefix_id = x.id where x.pool_id = p.id and not x.central and not p.draining and (
        next_block_1(x, p.skip_ends, walk_from_1(x, s.next_block), tail_1(x) - 1) is not null
        or exists (select from block u where u.prefix_id = x.id and u.state = 'unclaimed' and u.rested_at <= now
          and set_masklen(broadcast(u.cidr), masklen(tail_1(x))) < tail_1(x))))
  order by p.name
$$;

-- Allocations that end though nobody released them: their node is gone, or its agent shows them no more. Central ones wait as spares.
create function end_allocations_1(now timestamptz, owners uuid[], actor text, reason text) returns int language plpgsql as $$
declare
  rows_ allocation[];
  live allocation[];
begin
  with gone as (delete from allocation a where a.owner = any (owners) returning a) select array_agg(a) into rows_ from gone;
  if rows_ is null then
    return 0;
  end if;
  perform spare_1(now, array_agg(h.p), array_agg(h.a), array_agg(h.g)) from unnest(rows_) x
    cross join lateral (values (x.prefix4, x.address4, x.generation4), (x.prefix6, x.address6, x.generation6)) h (p, a, g) where h.a is not null;
  live := array(select x from unnest(rows_) x where x.released_at is null);
  if cardinality(live) > 0 then
    perform tell_1(now, 'released', 'AddressReleased', live, array_fill(actor, array[cardinality(live)]), array_fill(reason, array[cardinality(live)]));
  end if;
  perform tell_1(now, 'gone', null, rows_, array_fill(actor, array[cardinality(rows_)]), array_fill(reason, array[cardinality(rows_)]));
  return cardinality(rows_);
end $$;

-- Central blocks of which every address waits, rested, in pools that nodes claim from: let nodes have them again. How many there were.
create function retire_central_1(now timestamptz) returns int language plpgsql as $$
declare
  p prefix;
  q pool;
  b block;
  wide int;
  size int;
  waiting int;
  highest bigint;
  done int := 0;
begin
  for p in select x.* from prefix x where not x.central and exists (select from block y where y.prefix_id = x.id and y.state = 'central')
    order by family(x.cidr), x.id
  loop
    select * into q from pool x where x.id = p.pool_id;
    wide := case family(p.cidr) when 4 then 32 else 128 end;
    perform lock_supply_1(p.id);
    for b in select y.* from block y join supply s on s.prefix_id = y.prefix_id
      where y.prefix_id = p.id and y.state = 'central' and y.cidr is distinct from s.central_block
        and (tail_1(p) is null or set_masklen(broadcast(y.cidr), wide) < tail_1(p)) order by y.cidr
    loop
      select count(*) into size from generate_series(0, (1 << (wide - p.block_len)) - 1) i
        where is_assignable_1(p, q.skip_ends, set_masklen(b.cidr::inet, wide) + i);
      select count(*), max(w.generation) into waiting, highest from (
        select s.generation from spare s where s.prefix_id = p.id and s.address <<= b.cidr and s.released_at <= now - q.cooldown
          and is_assignable_1(p, q.skip_ends, s.address) for update skip locked) w;
      continue when waiting < size or exists (
        select from allocation a where a.scope = p.scope and (a.address4 <<= b.cidr or a.address6 <<= b.cidr));
      delete from spare s where s.prefix_id = p.id and s.address <<= b.cidr;
      update block y set state = 'unclaimed', claim = y.claim + 1, generation = greatest(y.generation, highest), since = now, rested_at = now
        where y.prefix_id = p.id and y.cidr = b.cidr;
      done := done + 1;
    end loop;
  end loop;
  return done;
end $$;
