-- Reports that write history when it was: a change is as old as its agent says, however long the manager was away. An older manager goes
-- on calling the former functions, which write the time of the report.

-- When the latest change was that this node's history tells of.
alter table report add column told_at timestamptz;

-- As `tell_1`, each row at a time of its own; the event is of now, since positions are told in the order of commits.
create function tell_2(now timestamptz, what text, event text, rows_ allocation[], times timestamptz[], reasons text[]) returns void
language plpgsql as $$
declare
  woken int;
begin
  with half as (
    select r.owner, r.scope, h.a, h.g, r.node_id, times[r.ordinality] as at_, reasons[r.ordinality] as reason, r.about, q.name as pool, n.name as node,
      case r.kind when 'attachment' then format('container %s interface %s network %s node %s', r.container_id, r.ifname, r.network, n.name)
        else format('%s (pool %s)', r.name, q.name) end as label
    from unnest(rows_) with ordinality r
    cross join lateral (values (r.prefix4, r.address4, r.generation4), (r.prefix6, r.address6, r.generation6)) h (p, a, g)
    join prefix x on x.id = h.p
    join pool q on q.id = x.pool_id
    left join node n on n.id = r.node_id
  ), kept as (
    insert into history (at, what, owner, scope, address, generation, node_id, detail)
    select at_, what, owner, scope, a, g, node_id, about || jsonb_strip_nulls(jsonb_build_object('owner', label, 'reason', reason)) from half
  ), told as (
    insert into outbox (at, what, about)
    select now, event, jsonb_build_object('pool', pool, 'address', host(a), 'owner', label, 'generation', g, 'node', node)
    from half where event is not null
    returning id
  )
  select count(*) into woken from (select pg_notify('fabricmgr_outbox', '') from (select from told limit 1) one) w;
end $$;

-- As `report_batch_1`; ats: when each change was, by the manager's clock.
create function report_batch_2(
  now timestamptz, reporters int[], serials text[], lives uuid[], numbers bigint[], ages int[], frees jsonb[],
  rs int[], waves int[], whats text[], owners uuid[], networks text[], containers text[], ifnames text[], macs text[], abouts jsonb[],
  ats timestamptz[], reasons text[], a4 inet[], g4 bigint[], b4 cidr[], c4 int[], a6 inet[], g6 bigint[], b6 cidr[], c6 int[]
) returns table (r int, outcome text, last_number bigint)
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan as $$
declare
  verdicts text[];
  floors timestamptz[];
  lasts bigint[];
  todo int[];
begin
  perform from node n where n.id = any (reporters) order by n.id for no key update;
  select array_agg(v.verdict order by v.i), array_agg(v.last_number order by v.i), array_agg(v.told_at order by v.i)
    into verdicts, lasts, floors from (
    select u.i, coalesce(t.last_number, 0) as last_number, t.told_at, case
      when n.id is null or n.state = 'gone' then 'gone'
      when not exists (select from certificate c where c.serial = u.serial and c.node_id = n.id and c.revoked_at is null) then 'revoked'
      when t.life is distinct from u.life then 'hello'
      when u.number <= t.last_number then 'repeated'
      when u.number > t.last_number + 1 then 'gap'
      else 'applied' end as verdict
    from unnest(reporters, serials, lives, numbers) with ordinality u (node, serial, life, number, i)
    left join node n on n.id = u.node left join report t on t.node_id = u.node) v;
  -- What a node did stands in the order it did it, whatever its clock or the network did between two reports.
  ats := array(select greatest(least(a, now), floors[x]) from unnest(ats, rs) with ordinality u (a, x, i) order by i);
  for w in 0 .. coalesce((select max(x) from unnest(waves) x), -1) loop
    todo := array(select i from unnest(rs, waves, whats) with ordinality u (x, v, k, i)
      where u.v = w and u.k = 'assigned' and verdicts[u.x] = 'applied' order by owners[i]);
    if cardinality(todo) > 0 then
      perform report_assigned_2(now, todo, reporters, rs, owners, networks, containers, ifnames, macs, abouts, ats, reasons, a4, g4, b4, c4, a6, g6, b6, c6);
    end if;
    todo := array(select i from unnest(rs, waves, whats) with ordinality u (x, v, k, i)
      where u.v = w and u.k = 'released' and verdicts[u.x] = 'applied' order by owners[i]);
    if cardinality(todo) > 0 then
      perform report_released_2(now, todo, reporters, rs, owners, ats, reasons, a4, g4, a6, g6);
    end if;
    todo := array(select i from unnest(rs, waves, whats) with ordinality u (x, v, k, i)
      where u.v = w and u.k = 'gone' and verdicts[u.x] = 'applied' order by owners[i]);
    if cardinality(todo) > 0 then
      perform report_gone_2(now, todo, reporters, rs, owners, ats, reasons, a4, g4, a6, g6);
    end if;
  end loop;
  update report t set last_number = numbers[i], at = now,
    told_at = greatest(t.told_at, (select max(a) from unnest(ats, rs) u (a, x) where x = i)) from generate_series(1, cardinality(reporters)) i
  where t.node_id = reporters[i] and verdicts[i] = 'applied';
  update node n set seen_at = now, report_age_ms = ages[i], free = frees[i] from generate_series(1, cardinality(reporters)) i
  where n.id = reporters[i] and verdicts[i] in ('applied', 'repeated');
  return query select i, verdicts[i], case verdicts[i] when 'applied' then numbers[i] else lasts[i] end
    from generate_series(1, cardinality(reporters)) i;
end $$;

create function report_assigned_2(
  now timestamptz, todo int[], reporters int[], rs int[], owners uuid[], networks text[], containers text[], ifnames text[], macs text[],
  abouts jsonb[], ats timestamptz[], reasons text[], a4 inet[], g4 bigint[], b4 cidr[], c4 int[], a6 inet[], g6 bigint[], b6 cidr[], c6 int[]
) returns void language plpgsql as $$
declare
  p4 int[];
  p6 int[];
  good int[];
  news allocation[];
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
      containers[i], ifnames[i], macs[i], abouts[i], ats[i]
    from unnest(good) k cross join lateral (select todo[k] as i) t join node n on n.id = reporters[rs[i]]
    join prefix x on x.id = coalesce(p4[k], p6[k]) order by owners[i]
    on conflict (owner) do update set
      prefix4 = coalesce(excluded.prefix4, a.prefix4), address4 = coalesce(excluded.address4, a.address4),
      generation4 = coalesce(excluded.generation4, a.generation4), prefix6 = coalesce(excluded.prefix6, a.prefix6),
      address6 = coalesce(excluded.address6, a.address6), generation6 = coalesce(excluded.generation6, a.generation6),
      mac = excluded.mac, about = excluded.about, at = excluded.at
    where a.node_id = excluded.node_id and (
      (excluded.address4 is not null and (a.address4, a.generation4) is distinct from (excluded.address4, excluded.generation4))
      or (excluded.address6 is not null and (a.address6, a.generation6) is distinct from (excluded.address6, excluded.generation6)))
    returning a
  ) select array_agg(a) into news from new;
  if news is not null then
    perform tell_2(now, 'assigned', 'AddressAllocated', news, array(select x.at from unnest(news) with ordinality x order by x.ordinality), null);
  end if;
end $$;

create function report_released_2(
  now timestamptz, todo int[], reporters int[], rs int[], owners uuid[], ats timestamptz[], reasons text[], a4 inet[], g4 bigint[], a6 inet[],
  g6 bigint[]
) returns void language plpgsql as $$
declare
  rows_ allocation[];
  times timestamptz[];
  why text[];
begin
  with changed as (
    update allocation a set released_at = greatest(a.at, ats[i]) from unnest(todo) i
    where a.owner = owners[i] and a.node_id = reporters[rs[i]] and a.released_at is null
      and ((a.address4 = a4[i] and a.generation4 = g4[i]) or (a.address6 = a6[i] and a.generation6 = g6[i]))
    returning a, reasons[i] as why
  ) select array_agg(c.a), array_agg((c.a).released_at), array_agg(c.why) into rows_, times, why from changed c;
  if rows_ is not null then
    perform tell_2(now, 'released', 'AddressReleased', rows_, times, why);
  end if;
end $$;

create function report_gone_2(
  now timestamptz, todo int[], reporters int[], rs int[], owners uuid[], ats timestamptz[], reasons text[], a4 inet[], g4 bigint[], a6 inet[],
  g6 bigint[]
) returns void language plpgsql as $$
declare
  rows_ allocation[];
  times timestamptz[];
  aside allocation[];
  aside_times timestamptz[];
  fresh int[];
begin
  with gone as (
    delete from allocation a using unnest(todo) i
    where a.owner = owners[i] and a.node_id = reporters[rs[i]]
      and ((a.address4 = a4[i] and a.generation4 = g4[i]) or (a.address6 = a6[i] and a.generation6 = g6[i]))
    returning a, greatest(a.at, a.released_at, ats[i]) as told
  ) select array_agg(a), array_agg(told) into rows_, times from gone;
  if coalesce(cardinality(rows_), 0) < cardinality(todo) then
    -- What stepped aside has another key: it is found by its node and address.
    with gone as (
      delete from allocation a using unnest(todo) i
      where a.node_id = reporters[rs[i]] and a.released_at is not null
        and ((a.address4 = a4[i] and a.generation4 = g4[i]) or (a.address6 = a6[i] and a.generation6 = g6[i]))
      returning a, greatest(a.at, a.released_at, ats[i]) as told
    ) select array_agg(a), array_agg(told) into aside, aside_times from gone;
    rows_ := rows_ || aside;
    times := times || aside_times;
  end if;
  if rows_ is not null then
    -- The cooldown begins with the report: an agent's clock shortens no rest.
    perform spare_1(now, array_agg(h.p), array_agg(h.a), array_agg(h.g)) from unnest(rows_) x
      cross join lateral (values (x.prefix4, x.address4, x.generation4), (x.prefix6, x.address6, x.generation6)) h (p, a, g) where h.a is not null;
    fresh := array(select k from generate_series(1, cardinality(rows_)) k where (rows_[k]).released_at is null);
    if cardinality(fresh) > 0 then
      perform tell_2(now, 'released', 'AddressReleased', array(select rows_[k] from unnest(fresh) k), array(select times[k] from unnest(fresh) k), null);
    end if;
    perform tell_2(now, 'gone', null, rows_, times, null);
  end if;
end $$;
