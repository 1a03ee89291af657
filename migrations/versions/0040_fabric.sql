-- What is on the fabric. Switches and their ports as a driver last saw them; a driver writes whole rows, nobody else does.
create table switch (
  id int generated always as identity primary key,
  name text not null unique,
  manufacturer text not null default '',
  model text not null default '',
  serial text not null default '',
  firmware text not null default '',
  role text not null default '' check (role in ('', 'leaf', 'spine')),
  reachable boolean not null default true,
  source text not null default '',
  metrics jsonb not null default '{}',
  observed_at timestamptz not null,
  created_at timestamptz not null,
  version bigint not null default 1
);
create table port (
  switch_id int not null references switch on delete cascade,
  name text not null,
  place int not null,
  enabled boolean not null default true,
  link text not null default '' check (link in ('', 'up', 'down', 'none')),
  speed_mbps int,
  max_speed_mbps int,
  mtu int,
  mac text not null default '',
  kind text not null default '' check (kind in ('', 'upstream', 'downstream', 'interswitch', 'management')),
  neighbour jsonb not null default '{}',
  metrics jsonb not null default '{}',
  observed_at timestamptz not null,
  version bigint not null default 1,
  primary key (switch_id, name)
);

-- A node's NIC that somebody gave a name on the fabric. One that nobody named has no row: it is shown from what its agent reports.
create table endpoint (
  id int generated always as identity primary key,
  name text not null unique,
  node_id int not null references node on delete cascade,
  interface text not null,
  description text not null default '',
  created_at timestamptz not null,
  version bigint not null default 1,
  unique (node_id, interface)
);
-- A group of endpoints inside a cluster, which is the zone of zones around it.
create table zone (
  id int generated always as identity primary key,
  cluster_id int not null references cluster,
  name text not null,
  description text not null default '',
  created_at timestamptz not null,
  version bigint not null default 1,
  unique (cluster_id, name)
);
create table zone_endpoint (
  zone_id int not null references zone on delete cascade,
  endpoint_id int not null references endpoint on delete cascade,
  primary key (zone_id, endpoint_id)
);
create index on zone_endpoint (endpoint_id);
create table zone_pool (
  zone_id int not null references zone on delete cascade,
  pool_id int not null references pool on delete cascade,
  primary key (zone_id, pool_id)
);
create index on zone_pool (pool_id);
