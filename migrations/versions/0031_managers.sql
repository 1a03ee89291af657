-- A manager that serves on this database. certificate: what it serves with, its chain behind it, PEM. Its key is not here.
create table manager_process (
  id uuid primary key,
  host text not null,
  software text not null,
  url text not null,
  certificate text not null default '',
  ntp_servers text[] not null default '{}',
  seen_at timestamptz not null,
  version bigint not null default 1
);
