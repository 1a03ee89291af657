-- Accounts that log in by client certificate. trust_version: grows whenever the set of what TLS has to believe changes.
create table client_login (
  only_one boolean primary key default true check (only_one),
  enabled boolean not null default false,
  mapping text not null default 'CommonName' check (mapping in ('Whole', 'CommonName', 'UserPrincipalName')),
  trust_version bigint not null default 1,
  version bigint not null default 1
);
insert into client_login default values;

-- CAs whose certificates name accounts. fingerprint: SHA-256 of the DER, here and below.
create table client_authority (
  fingerprint bytea primary key,
  pem text not null,
  created_at timestamptz not null
);

-- A certificate that stands for one account.
create table account_certificate (
  fingerprint bytea primary key,
  account_id int not null references account on delete cascade,
  pem text not null,
  created_at timestamptz not null
);
create index account_certificate_account_id_idx on account_certificate (account_id);
-- A node is found by its certificate itself: a serial can be chosen by another CA.
create unique index certificate_fingerprint_idx on certificate (fingerprint);
