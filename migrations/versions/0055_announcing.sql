-- Who announces an address, as decided; what each node last said of it; when each was last heard.
-- Nothing was ever written to beat_at: beats are of nodes, not of addresses, or a thousand of them would be written twice a second.
alter table announcement
  drop column beat_at,
  add column successor_id int references node on delete set null,
  add column reason text not null default '';
create index on announcement (successor_id) where successor_id is not null;

create table announcer (
  node_id int primary key references node on delete cascade,
  beat_at timestamptz not null
) with (fillfactor = 50);

create table voice (
  cluster_id int not null references cluster on delete cascade,
  address inet not null,
  node_id int not null references node on delete cascade,
  term bigint not null,
  stage text not null check (stage in ('told', 'probing', 'speaking', 'silent')),
  conflict text not null default '',
  reason text not null default '',
  told_at timestamptz not null,
  failed_at timestamptz,
  primary key (cluster_id, address, node_id)
);
create index on voice (node_id);

-- endpoints: names of the Nodes that have a ready one. former: the allocation that it is about to leave (moving) or has left (leaving).
alter table service
  add column endpoints text[] not null default '{}',
  add column former uuid,
  drop constraint service_state_check,
  add constraint service_state_check check (state in ('pending', 'assigned', 'moving', 'leaving', 'withdrawing'));
create index on service (former) where former is not null;
