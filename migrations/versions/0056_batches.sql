-- The batch of the writer for a fraction of its price. What an older manager calls stays as it was.

-- The first stretch of addresses from `start` to `stop` that may be handed out, as `free_run_1` finds it; only reservations are looked up, the
-- rest is arithmetic.
create function free_run_2(p prefix, ends boolean, start inet, stop inet, out first inet, out last inet) language plpgsql stable as $$
declare
  wide constant int := case family(p.cidr) when 4 then 32 else 128 end;
  gate constant inet := set_masklen(p.gateway, wide);
  met_first inet;
  met_last inet;
begin
  first := start;
  last := stop;
  if ends and masklen(p.cidr) < wide - 1 then
    first := greatest(first, set_masklen(p.cidr::inet, wide) + 1);
    last := least(last, set_masklen(broadcast(p.cidr), wide) - 1);
  end if;
  while first <= last loop
    select set_masklen(r.cidr::inet, wide), set_masklen(broadcast(r.cidr), wide) into met_first, met_last from reservation r
      where r.prefix_id = p.id and set_masklen(broadcast(r.cidr), wide) >= first order by r.cidr limit 1;
    if met_first <= first then
      exit when met_last >= last;
      first := met_last + 1;
    elsif first = gate then
      exit when first = last;
      first := first + 1;
    else
      last := case when met_first <= last then met_first - 1 else last end;
      last := case when gate between first and last then gate - 1 else last end;
      return;
    end if;
  end loop;
  first := null;
  last := null;
end $$;

-- One more block for the writer itself, as `central_block_1` takes it, with its generation and the first stretch of it that may be handed out.
-- The cursor must be locked. Null: there is none.
create function central_block_2(p prefix, ends boolean, now timestamptz, inout walk inet, out taken cidr, out base bigint, out first inet,
  out last inet) language plpgsql as $$
declare
  wide constant int := case family(p.cidr) when 4 then 32 else 128 end;
  stop constant inet := set_masklen(broadcast(p.cidr), wide);
  at_ inet := walk_from_1(p, walk);
  end_ inet;
  run record;
begin
  while at_ is not null loop
    run := free_run_2(p, ends, at_, stop);
    exit when run.first is null;
    taken := network(set_masklen(run.first, p.block_len));
    end_ := set_masklen(broadcast(taken), wide);
    insert into block (prefix_id, cidr, len, scope, state, claim, since) values (p.id, taken, p.block_len, p.scope, 'central', 1, now)
      on conflict (prefix_id, cidr) do nothing returning generation into base;
    if base is not null then
      walk := walk_after_1(p, taken);
      first := run.first;
      last := least(run.last, end_);
      return;
    end if;
    at_ := case when end_ < stop then end_ + 1 end;
  end loop;
  walk := walk_after_1(p, null);
  update block b set state = 'central', claim = b.claim + 1, since = now, rested_at = null
  where b.prefix_id = p.id and b.cidr = (
    select u.cidr from block u where u.prefix_id = p.id and u.state = 'unclaimed' and u.rested_at <= now
      and (free_run_2(p, ends, set_masklen(u.cidr::inet, wide), set_masklen(broadcast(u.cidr), wide))).first is not null
    order by u.rested_at, u.cidr limit 1)
  returning b.cidr, b.generation into taken, base;
  if taken is not null then
    run := free_run_2(p, ends, set_masklen(taken::inet, wide), set_masklen(broadcast(taken), wide));
    first := run.first;
    last := run.last;
  end if;
end $$;

-- Up to n addresses of a prefix by its cursor, as `take_fresh_1`, added to those that were taken before.
create function take_fresh_2(p prefix, ends boolean, n int, now timestamptz,
  inout prefixes int[], inout addresses inet[], inout generations bigint[]) language plpgsql as $$
declare
  wide constant int := case family(p.cidr) when 4 then 32 else 128 end;
  left_ int := n;
  step int;
  base bigint;
  end_ inet;
  run record;
  before supply;
  cur supply;
begin
  -- This row alone: a row that was waited for is read as its last holder left it, but what is read beside it is as old as the statement.
  select * into cur from supply s where s.prefix_id = p.id for update;
  if not found then
    perform lock_supply_1(p.id);
    select * into cur from supply s where s.prefix_id = p.id;
  end if;
  before := cur;
  while left_ > 0 loop
    if cur.central_block is null then
      run := central_block_2(p, ends, now, cur.next_block);
      cur.next_block := run.walk;
      cur.central_block := run.taken;
      exit when cur.central_block is null;
      base := run.base;
      end_ := set_masklen(broadcast(cur.central_block), wide);
    else
      end_ := set_masklen(broadcast(cur.central_block), wide);
      run := free_run_2(p, ends, cur.next_address, end_);
      if base is null then
        select b.generation into base from block b where b.prefix_id = p.id and b.cidr = cur.central_block;
      end if;
    end if;
    step := least(left_, run.last - run.first + 1);
    if run.first is not null then
      prefixes := prefixes || array_fill(p.id, array[step]);
      addresses := addresses || array(select run.first + i from generate_series(0, step - 1) i);
      generations := generations || array_fill(base + 1, array[step]);
      left_ := left_ - step;
    end if;
    if run.first is null or run.first + (step - 1) = end_ then
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

-- Up to n addresses of a pool and family, as `take_1`: rested spares, then the cursor, then (where the pool allows it) spares that still cool.
-- The last three say nothing of addresses that nobody had before; they may be shorter, or null.
create function take_2(q pool, fam int, n int, now timestamptz, out prefixes int[], out addresses inet[], out generations bigint[],
  out releases timestamptz[], out lasts uuid[], out earlies boolean[]) language plpgsql as $$
declare
  p prefix;
  fresh record;
begin
  prefixes := '{}';
  addresses := '{}';
  generations := '{}';
  if q.draining then
    return;
  end if;
  if exists (select from prefix x join spare s on s.prefix_id = x.id
    where x.pool_id = q.id and family(x.cidr) = fam and s.released_at <= now - q.cooldown) then
    select coalesce(array_agg(s.prefix_id), '{}'), coalesce(array_agg(s.address), '{}'), coalesce(array_agg(s.generation + 1), '{}'),
      array_agg(s.released_at), array_agg(s.last_owner) into prefixes, addresses, generations, releases, lasts
      from take_spares_1(q.id, fam, n, now - q.cooldown) s;
  end if;
  while cardinality(addresses) < n loop
    select * into p from prefix x where x.pool_id = q.id and family(x.cidr) = fam and x.id > coalesce(p.id, 0) order by x.id limit 1;
    exit when p.id is null;
    fresh := take_fresh_2(p, q.skip_ends, n - cardinality(addresses), now, prefixes, addresses, generations);
    prefixes := fresh.prefixes;
    addresses := fresh.addresses;
    generations := fresh.generations;
  end loop;
  if cardinality(addresses) < n and q.reuse_early then
    select prefixes || array_agg(s.prefix_id), addresses || array_agg(s.address), generations || array_agg(s.generation + 1),
      array(select releases[i] from generate_series(1, cardinality(addresses)) i) || array_agg(s.released_at),
      array(select lasts[i] from generate_series(1, cardinality(addresses)) i) || array_agg(s.last_owner),
      array_fill(false, array[cardinality(addresses)]) || array_agg(true)
      into prefixes, addresses, generations, releases, lasts, earlies
      from take_spares_1(q.id, fam, n - cardinality(addresses), now) s;
  end if;
end $$;

-- Addresses that were taken and that nobody got after all: back to the head of the spares.
create function put_back_2(prefixes int[], addresses inet[], generations bigint[], releases timestamptz[], lasts uuid[], unused int[])
returns void language plpgsql as $$
begin
  insert into spare (prefix_id, released_at, address, generation, last_owner)
  select prefixes[i], coalesce(releases[i], 'epoch'), addresses[i], generations[i] - 1, lasts[i] from unnest(unused) i;
end $$;

-- The elements of a column at these places. A column of one element, or none, is alike at all places.
create function picked_2(anyarray, int[]) returns anyarray language sql immutable as $$
  select case when cardinality($1) > 1 then array(select $1[u.i] from unnest($2) with ordinality u (i, k) order by u.k) else $1 end
$$;
create function alike_2(anyarray) returns anyelement language sql immutable as $$
  select case when cardinality($1) = 1 then $1[1] end
$$;

-- As `allocate_batch_1`, told and telling less. A column that is alike for all owners has one element; one that is empty for all is null. What
-- was made comes in the first row, as columns: `places` says for which owners, and is null for all of them; `earlies` is null where all
-- had rested. Who holds some already, and who is barred, follows in a row each.
create function allocate_batch_2(
  pool4 int, pool6 int, now timestamptz,
  owners uuid[], kinds text[], cluster_ids int[], node_ids int[], networks text[], containers text[], ifnames text[], names text[],
  macs text[], abouts jsonb[], actors text[], labels text[], nodes text[], serials text[]
) returns table (
  places int[], addresses4 inet[], generations4 bigint[], addresses6 inet[], generations6 bigint[], earlies boolean[],
  owner uuid, address4 inet, generation4 bigint, address6 inet, generation6 bigint, released_at timestamptz,
  kind text, node_id int, network text, container_id text, ifname text, name text)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  kind_ constant text := alike_2(kinds);
  cluster_id_ constant int := alike_2(cluster_ids);
  node_id_ constant int := alike_2(node_ids);
  network_ constant text := alike_2(networks);
  container_ constant text := alike_2(containers);
  ifname_ constant text := alike_2(ifnames);
  name_ constant text := alike_2(names);
  mac_ constant text := alike_2(macs);
  about_ constant jsonb := alike_2(abouts);
  actor_ constant text := alike_2(actors);
  label_ constant text := alike_2(labels);
  node_ constant text := alike_2(nodes);
  serial_ constant text := alike_2(serials);
  k int := cardinality(owners);
  done int;
  keep int[];
  lost int[];
  barred int[] := '{}';
  held uuid[];
  q4 pool;
  q6 pool;
  t4 record;
  t6 record;
  p4 int[];
  p6 int[];
  in_scope int;
begin
  if pool4 <> pool6 then
    perform from pool p where p.id in (pool4, pool6) order by p.id for key share;
  end if;
  if pool4 is not null then
    select * into q4 from pool p where p.id = pool4 for key share;
  end if;
  if pool6 is not null then
    select * into q6 from pool p where p.id = pool6 for key share;
  end if;
  if serials is not null then
    perform from node d where d.id = any (node_ids) order by d.id for key share;
    barred := array(select i from generate_series(1, k) i where coalesce(serials[i], serial_) is not null and not exists (
      select from certificate c join node d on d.id = c.node_id
      where c.serial = coalesce(serials[i], serial_) and c.node_id = coalesce(node_ids[i], node_id_) and c.revoked_at is null
        and d.state <> 'gone'));
  end if;
  -- Who holds some already takes none out of the others' reach, not even for a moment.
  held := array(select a.owner from allocation a where a.owner = any (owners));
  if held <> '{}' or barred <> '{}' then
    keep := array(select i from generate_series(1, k) i where owners[i] <> all (held) and i <> all (barred));
    held := array(select owners[i] from generate_series(1, k) i where owners[i] = any (held) and i <> all (barred));
    return query select null::int[], null::inet[], null::bigint[], null::inet[], null::bigint[], null::boolean[],
      owners[i], null::inet, null::bigint, null::inet, null::bigint, null::timestamptz, 'barred', null::int, null, null, null, null
      from unnest(barred) i;
    owners := picked_2(owners, keep);
    kinds := picked_2(kinds, keep);
    cluster_ids := picked_2(cluster_ids, keep);
    node_ids := picked_2(node_ids, keep);
    networks := picked_2(networks, keep);
    containers := picked_2(containers, keep);
    ifnames := picked_2(ifnames, keep);
    names := picked_2(names, keep);
    macs := picked_2(macs, keep);
    abouts := picked_2(abouts, keep);
    actors := picked_2(actors, keep);
    labels := picked_2(labels, keep);
    nodes := picked_2(nodes, keep);
    k := cardinality(keep);
  end if;

  if pool4 is not null and k > 0 then
    t4 := take_2(q4, 4, k, now);
    p4 := t4.prefixes;
    addresses4 := t4.addresses;
    generations4 := t4.generations;
    earlies := t4.earlies;
    in_scope := q4.scope;
    k := cardinality(addresses4);
  end if;
  if pool6 is not null and k > 0 then
    t6 := take_2(q6, 6, k, now);
    p6 := t6.prefixes;
    addresses6 := t6.addresses;
    generations6 := t6.generations;
    earlies := case when t6.earlies is null then earlies
      else array(select coalesce(earlies[i], false) or coalesce(t6.earlies[i], false) from generate_series(1, k) i) end;
    in_scope := q6.scope;
    k := cardinality(addresses6);
  end if;

  insert into allocation as a (owner, scope, prefix4, address4, generation4, prefix6, address6, generation6, kind, cluster_id, node_id,
    network, container_id, ifname, name, mac, about, at)
  select owners[i], in_scope, p4[i], addresses4[i], generations4[i], p6[i], addresses6[i], generations6[i],
    coalesce(kinds[i], kind_), coalesce(cluster_ids[i], cluster_id_), coalesce(node_ids[i], node_id_), coalesce(networks[i], network_),
    coalesce(containers[i], container_), coalesce(ifnames[i], ifname_), coalesce(names[i], name_), coalesce(macs[i], mac_),
    coalesce(abouts[i], about_), now
  from generate_series(1, k) i
  on conflict (owner) do nothing;
  get diagnostics done = row_count;
  if done < k then
    -- Others gave these owners something meanwhile. An address is nobody else's, so a row with ours is ours.
    lost := array(select i from generate_series(1, k) i where not exists (select from allocation a where a.owner = owners[i]
      and a.address4 is not distinct from addresses4[i] and a.address6 is not distinct from addresses6[i]));
    held := held || array(select owners[i] from unnest(lost) i);
  end if;
  if done < cardinality(addresses4) then
    perform put_back_2(p4, addresses4, generations4, t4.releases, t4.lasts, lost || array(select generate_series(k + 1, cardinality(addresses4))));
  end if;
  if done < cardinality(addresses6) then
    perform put_back_2(p6, addresses6, generations6, t6.releases, t6.lasts, lost || array(select generate_series(k + 1, cardinality(addresses6))));
  end if;

  insert into history (at, what, owner, scope, address, generation, node_id, actor, detail)
  select now, 'assigned', owners[i], in_scope, addresses4[i], generations4[i], coalesce(node_ids[i], node_id_), coalesce(actors[i], actor_),
    coalesce(abouts[i], about_) || jsonb_build_object('owner', coalesce(labels[i], label_))
  from generate_series(1, k) i where pool4 is not null and (lost is null or i <> all (lost))
  union all
  select now, 'assigned', owners[i], in_scope, addresses6[i], generations6[i], coalesce(node_ids[i], node_id_), coalesce(actors[i], actor_),
    coalesce(abouts[i], about_) || jsonb_build_object('owner', coalesce(labels[i], label_))
  from generate_series(1, k) i where pool6 is not null and (lost is null or i <> all (lost));
  insert into outbox (at, what, about)
  select now, 'AddressAllocated', jsonb_build_object('pool', q4.name, 'address', host(addresses4[i]), 'owner', coalesce(labels[i], label_),
    'generation', generations4[i], 'node', coalesce(nodes[i], node_))
  from generate_series(1, k) i where pool4 is not null and (lost is null or i <> all (lost))
  union all
  select now, 'AddressAllocated', jsonb_build_object('pool', q6.name, 'address', host(addresses6[i]), 'owner', coalesce(labels[i], label_),
    'generation', generations6[i], 'node', coalesce(nodes[i], node_))
  from generate_series(1, k) i where pool6 is not null and (lost is null or i <> all (lost));
  if done > 0 then
    perform pg_notify('fabricmgr_outbox', '');
  end if;

  if done < cardinality(owners) or keep is not null then
    places := array(select i from generate_series(1, k) i where lost is null or i <> all (lost));
    addresses4 := picked_2(addresses4, places);
    generations4 := picked_2(generations4, places);
    addresses6 := picked_2(addresses6, places);
    generations6 := picked_2(generations6, places);
    earlies := picked_2(earlies, places);
    if keep is not null then
      places := array(select keep[i] from unnest(places) i);
    end if;
  end if;
  if done > 0 then
    return next;
  end if;
  if held <> '{}' then
    return query select null::int[], null::inet[], null::bigint[], null::inet[], null::bigint[], null::boolean[],
      a.owner, a.address4, a.generation4, a.address6, a.generation6, a.released_at, a.kind, a.node_id, a.network, a.container_id, a.ifname, a.name
      from allocation a where a.owner = any (held);
  end if;
end $$;
