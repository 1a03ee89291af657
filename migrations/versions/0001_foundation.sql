-- One row: who this installation is.
create table installation (
  only_one boolean primary key default true check (only_one),
  id uuid not null,
  created_at timestamptz not null
);
-- Secrets at rest, sealed under the master key (AES-256-GCM, nonce first). The name is authenticated with the text.
create table secret (
  name text primary key,
  sealed bytea not null,
  at timestamptz not null
);
create table cluster (
  id int generated always as identity primary key,
  name text not null unique,
  created_at timestamptz not null,
  version bigint not null default 1
);
create table pool (
  id int generated always as identity primary key,
  cluster_id int references cluster,
  scope int not null default 0,
  name text not null unique,
  purpose text not null check (purpose in ('Pod', 'Service', 'Node', 'FabricLink', 'Loopback', 'Management')),
  cooldown interval not null default '60 s' check (cooldown >= '0 s'),
  skip_ends boolean not null default true,
  reuse_early boolean not null default false,
  draining boolean not null default false,
  created_at timestamptz not null,
  version bigint not null default 1,
  unique (id, scope)
);
create index on pool (cluster_id);
create table prefix (
  id int generated always as identity primary key,
  pool_id int not null,
  scope int not null,
  cidr cidr not null,
  block_len int not null check (block_len >= masklen(cidr) and block_len <= case family(cidr) when 4 then 32 else 128 end),
  central boolean not null,
  gateway inet,
  created_at timestamptz not null,
  foreign key (pool_id, scope) references pool (id, scope),
  unique (id, block_len, scope),
  constraint prefix_overlap exclude using gist (int4range(scope, scope, '[]') with &&, cidr inet_ops with &&)
);
create index on prefix (pool_id);
create table reservation (
  prefix_id int not null references prefix on delete cascade,
  cidr cidr not null,
  reason text not null,
  at timestamptz not null,
  primary key (prefix_id, cidr)
);
-- The writer's cursor over a prefix: the one hot row, alone. Nothing points at it with a foreign key.
create table supply (
  prefix_id int primary key,
  next_block inet,
  central_block cidr,
  next_address inet
) with (fillfactor = 10);
create table network (
  id int generated always as identity primary key,
  cluster_id int not null references cluster,
  name text not null,
  mtu int not null default 1500 check (mtu between 1280 and 65535),
  masquerade boolean not null default false,
  routing text not null default 'host-gw' check (routing in ('host-gw', 'none')),
  decide text not null default 'agent' check (decide in ('agent', 'namespaces', 'manager')),
  namespaces text[] not null default '{}',
  direct cidr[] not null default '{}',
  bridge text not null default '',
  status_policy text not null default 'auto' check (status_policy in ('auto', 'strict', 'lenient')),
  created_at timestamptz not null,
  version bigint not null default 1,
  unique (cluster_id, name)
);
create table network_pool (
  network_id int not null references network on delete cascade,
  pool_id int not null references pool,
  place int not null,
  primary key (network_id, pool_id)
);
create index on network_pool (pool_id);
create table node (
  id int generated always as identity primary key,
  cluster_id int not null references cluster,
  name text not null,
  state text not null default 'added' check (state in ('added', 'enrolled', 'suspect', 'gone')),
  system_uuid text not null default '',
  machine_id text not null default '',
  agent_version text not null default '',
  labels jsonb not null default '{}',
  addresses inet[] not null default '{}',
  interfaces jsonb not null default '[]',
  free jsonb not null default '{}',
  report_age_ms int not null default 0,
  desired_acted text not null default '',
  seen_at timestamptz,
  created_at timestamptz not null,
  gone_at timestamptz,
  version bigint not null default 1,
  unique (cluster_id, name)
);
create table token (
  digest bytea primary key,
  node_id int not null references node on delete cascade,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  used_at timestamptz
);
create index on token (node_id);
create table certificate (
  serial text primary key,
  node_id int not null references node on delete cascade,
  machine_id text not null,
  fingerprint bytea not null,
  not_before timestamptz not null,
  not_after timestamptz not null,
  revoked_at timestamptz,
  pem text not null
);
create index on certificate (node_id);
create table block (
  prefix_id int not null,
  cidr cidr not null,
  len int not null check (masklen(cidr) = len),
  scope int not null,
  state text not null check (state in ('unclaimed', 'pending', 'confirmed', 'releasing', 'central', 'held_back')),
  node_id int references node,
  claim int not null default 0,
  generation bigint not null default 0,
  since timestamptz not null,
  rested_at timestamptz,
  primary key (prefix_id, cidr),
  foreign key (prefix_id, len, scope) references prefix (id, block_len, scope),
  constraint block_overlap exclude using gist (int4range(scope, scope, '[]') with &&, cidr inet_ops with &&),
  check (state = 'held_back' or (state in ('pending', 'confirmed', 'releasing')) = (node_id is not null))
) with (fillfactor = 50);
create index on block (node_id) where node_id is not null;
create index on block (prefix_id, rested_at) where state = 'unclaimed';
-- An owner holds one address of each family at most. released_at: given back, but a link may still carry the addresses: they stay taken.
create table allocation (
  owner uuid primary key,
  scope int not null,
  prefix4 int,
  address4 inet,
  generation4 bigint,
  prefix6 int,
  address6 inet,
  generation6 bigint,
  kind text not null check (kind in ('attachment', 'service', 'statefulset', 'direct')),
  cluster_id int,
  node_id int,
  network text,
  container_id text,
  ifname text,
  name text,
  mac text,
  about jsonb not null default '{}',
  at timestamptz not null,
  released_at timestamptz,
  check (family(address4) = 4 and masklen(address4) = 32),
  check (family(address6) = 6 and masklen(address6) = 128),
  check (num_nonnulls(address4, address6) > 0),
  check (num_nonnulls(prefix4, address4, generation4) in (0, 3)),
  check (num_nonnulls(prefix6, address6, generation6) in (0, 3)),
  constraint allocation_address4 unique (scope, address4),
  constraint allocation_address6 unique (scope, address6)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index on allocation (node_id);
-- A released address of a central block, waiting. Oldest first.
create table spare (
  prefix_id int not null,
  released_at timestamptz not null,
  address inet not null,
  generation bigint not null,
  last_owner uuid,
  primary key (prefix_id, released_at, address),
  unique (prefix_id, address),
  check (masklen(address) = case family(address) when 4 then 32 else 128 end)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index on spare (last_owner) where last_owner is not null;
create table report (
  node_id int primary key references node on delete cascade,
  life uuid not null,
  boot_id uuid not null,
  last_number bigint not null,
  at timestamptz not null
);
create sequence history_id;
create table history (
  id bigint not null default nextval('history_id'),
  at timestamptz not null,
  what text not null,
  owner uuid,
  scope int,
  address inet,
  generation bigint,
  node_id int,
  actor text,
  detail jsonb
) partition by range (at);
create index history_who_had on history (address, at);
create index history_owner on history (owner, at);
create table history_default partition of history default;
-- Written by a change in its last statement, moved to event by one leader: positions are dense and in commit order.
create table outbox (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  what text not null,
  about jsonb not null
);
create table event (
  position bigint primary key,
  at timestamptz not null,
  what text not null,
  about jsonb not null
);
create table account (
  id int generated always as identity primary key,
  name text not null unique,
  password_hash text not null,
  role text not null,
  enabled boolean not null default true,
  must_change boolean not null default false,
  created_at timestamptz not null,
  version bigint not null default 1
);
create table session (
  id uuid primary key,
  digest bytea not null unique,
  account_id int not null references account on delete cascade,
  source text not null,
  created_at timestamptz not null,
  seen_at timestamptz not null
);
create index on session (account_id);
create table login_failure (
  account text not null,
  source text not null,
  count int not null,
  last_at timestamptz not null,
  primary key (account, source)
);
create table audit (
  id bigint generated always as identity primary key,
  at timestamptz not null,
  actor text not null,
  source text not null,
  method text not null,
  path text not null,
  status int not null,
  repeated int not null default 1,
  detail jsonb not null default '{}'
);
create index on audit (at);

-- A block lies inside its prefix, an allocation inside the prefixes it names and in their scope. Checked once a statement over its new rows.
create function block_inside_prefix_1() returns trigger language plpgsql as $$
begin
  if exists (select from changed b join prefix p on p.id = b.prefix_id where not b.cidr <<= p.cidr) then
    raise exception 'a block lies outside its prefix' using errcode = '23514', constraint = 'block_inside_prefix';
  end if;
  return null;
end $$;
create trigger block_inside_prefix_insert after insert on block
  referencing new table as changed for each statement execute function block_inside_prefix_1();
create trigger block_inside_prefix_update after update on block
  referencing new table as changed for each statement execute function block_inside_prefix_1();
create function allocation_inside_prefix_1() returns trigger language plpgsql as $$
begin
  if exists (
    select from changed a left join prefix p on p.id = a.prefix4
    where a.prefix4 is not null and (p.id is null or not a.address4 <<= p.cidr or a.scope <> p.scope)
  ) or exists (
    select from changed a left join prefix p on p.id = a.prefix6
    where a.prefix6 is not null and (p.id is null or not a.address6 <<= p.cidr or a.scope <> p.scope)
  ) then
    raise exception 'an allocation lies outside its prefix' using errcode = '23514', constraint = 'allocation_inside_prefix';
  end if;
  return null;
end $$;
create trigger allocation_inside_prefix_insert after insert on allocation
  referencing new table as changed for each statement execute function allocation_inside_prefix_1();
create trigger allocation_inside_prefix_update after update on allocation
  referencing new table as changed for each statement execute function allocation_inside_prefix_1();
