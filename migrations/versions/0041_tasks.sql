-- What takes long and was asked for without waiting. request: method, uri, body. arguments: of its kind. result: status and body, once ended.
create table task (
  id uuid primary key,
  kind text not null,
  name text not null,
  arguments jsonb not null,
  request jsonb not null,
  asked_by text not null,
  state text not null default 'new' check (state in ('new', 'running', 'cancelling', 'cancelled', 'completed', 'failed')),
  percent int not null default 0 check (percent between 0 and 100),
  result jsonb,
  created_at timestamptz not null,
  started_at timestamptz,
  ended_at timestamptz,
  version bigint not null default 1
);
create index on task (created_at) where ended_at is null;

-- Where a pool is told to run full, in percent of what can be assigned.
alter table pool
  add column warning int not null default 80,
  add column critical int not null default 95,
  add constraint pool_thresholds check (0 < warning and warning < critical and critical < 100);
