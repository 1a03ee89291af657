-- A cluster's API server. sealed: the kubeconfig, or null in-cluster. A row is what makes a cluster followed.
create table cluster_api (
  cluster_id int primary key references cluster on delete cascade,
  server text not null,
  sealed bytea,
  in_cluster boolean not null default false,
  pod_ranges cidr[] not null default '{}',
  service_ranges cidr[] not null default '{}',
  server_version text not null default '',
  state text not null default 'new' check (state in ('new', 'following', 'unreachable', 'refused')),
  reason text not null default '',
  progressed_at timestamptz,
  class_less boolean not null default false,
  version bigint not null default 1,
  check (in_cluster = (sealed is null))
);

-- What the API server shows, as far as it is used. Written in batches by whoever follows the cluster; gone with the object.
create table kube_node (
  cluster_id int not null references cluster on delete cascade,
  name text not null,
  uid text not null,
  system_uuid text not null default '',
  labels jsonb not null default '{}',
  addresses inet[] not null default '{}',
  ready boolean not null default false,
  provider_id text not null default '',
  at timestamptz not null,
  primary key (cluster_id, name)
);
create table kube_namespace (
  cluster_id int not null references cluster on delete cascade,
  name text not null,
  uid text not null,
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  primary key (cluster_id, name)
);
create table kube_pod (
  cluster_id int not null references cluster on delete cascade,
  namespace text not null,
  name text not null,
  uid text not null,
  node text not null default '',
  labels jsonb not null default '{}',
  annotations jsonb not null default '{}',
  owner_kind text not null default '',
  owner_name text not null default '',
  host_network boolean not null default false,
  phase text not null default '',
  addresses inet[] not null default '{}',
  deleting boolean not null default false,
  primary key (cluster_id, namespace, name)
) with (fillfactor = 70);
create index on kube_pod (cluster_id, node);

-- What was last said of a workload, so that a restart says nothing twice and misses nothing.
create table workload (
  cluster_id int not null references cluster on delete cascade,
  kind text not null,
  namespace text not null,
  name text not null,
  uid text not null,
  state jsonb not null default '{}',
  at timestamptz not null,
  primary key (cluster_id, kind, namespace, name)
);

-- Services of type LoadBalancer that are ours. owner: the allocation whose addresses it uses; several may share one.
create table service (
  cluster_id int not null references cluster on delete cascade,
  namespace text not null,
  name text not null,
  uid text not null,
  owner uuid,
  sharing_key text not null default '',
  ports jsonb not null default '[]',
  state text not null default 'pending' check (state in ('pending', 'assigned', 'withdrawing')),
  reason text not null default '',
  wanted jsonb not null default '{}',
  assigned_at timestamptz,
  version bigint not null default 1,
  primary key (cluster_id, namespace, name)
);
create index on service (owner) where owner is not null;

-- Who speaks for a Service's address on its segment. term grows with each new speaker.
create table announcement (
  cluster_id int not null references cluster on delete cascade,
  address inet not null,
  node_id int references node on delete set null,
  term bigint not null default 0,
  since timestamptz not null,
  beat_at timestamptz,
  state text not null default 'unassigned' check (state in ('unassigned', 'probing', 'speaking')),
  conflict text not null default '',
  primary key (cluster_id, address)
);
create index on announcement (node_id) where node_id is not null;

-- Who may have addresses of a pool, and which pool is taken first.
alter table pool
  add column selectors jsonb not null default '{}',
  add column priority int not null default 0,
  add column auto_assign boolean not null default true;

-- Namespaces that the manager decides for because selectors say so, beside those named by hand.
alter table network add column namespaces_found text[] not null default '{}';
