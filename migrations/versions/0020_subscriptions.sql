-- How events are delivered, for all subscriptions alike: one row.
create table event_service (
  only_one boolean primary key default true check (only_one),
  enabled boolean not null default true,
  retry_attempts int not null default 3 check (retry_attempts between 0 and 1000),
  retry_seconds int not null default 30 check (retry_seconds between 1 and 86400),
  version bigint not null default 1
);
insert into event_service default values;

-- Who is told of events. position: the newest one that was delivered. headers: sealed, since receivers' secrets stand in them.
-- attempts, next_try_at, reason: of a delivery that failed. seen_at: when the worker that holds a stream last said that it is open.
create table subscription (
  id uuid primary key,
  kind text not null check (kind in ('RedfishEvent', 'SSE')),
  account text not null,
  destination text not null default '',
  context text not null default '',
  policy text not null default 'RetryForeverWithBackoff'
    check (policy in ('TerminateAfterRetries', 'SuspendRetries', 'RetryForever', 'RetryForeverWithBackoff')),
  filters jsonb not null default '{}',
  verify_certificate boolean not null default true,
  include_origin boolean not null default false,
  heartbeat_minutes int check (heartbeat_minutes between 1 and 65535),
  headers bytea,
  suspended boolean not null default false,
  position bigint not null,
  attempts int not null default 0,
  next_try_at timestamptz,
  reason text not null default '',
  created_at timestamptz not null,
  seen_at timestamptz,
  version bigint not null default 1
);
create index on subscription (seen_at) where kind = 'SSE';
