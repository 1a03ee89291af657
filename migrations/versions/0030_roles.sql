-- What accounts of a role may do, by Redfish's names of privileges. The first three are Redfish's own and never change.
create table role (
  name text primary key,
  privileges text[] not null,
  created_at timestamptz not null,
  version bigint not null default 1
);
insert into role (name, privileges, created_at) values
  ('Administrator', '{Login,ConfigureManager,ConfigureUsers,ConfigureComponents,ConfigureSelf}', now()),
  ('Operator', '{Login,ConfigureComponents,ConfigureSelf}', now()),
  ('ReadOnly', '{Login,ConfigureSelf}', now());
create index on account (role);
alter table account add constraint account_role_fkey foreign key (role) references role;
