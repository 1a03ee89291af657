-- looks: grows when the agent shall hold journal and kernel against each other and say what it finds. faults: as it last said them.
alter table node add column looks int not null default 0, add column faults text[] not null default '{}';
