-- How accounts are locked out after wrong passwords, where somebody has said it; null: as the setting says. 0 in either: they are not.
alter table client_login
  add column lockout_attempts int check (lockout_attempts between 0 and 1000),
  add column lockout_seconds int check (lockout_seconds between 0 and 86400);
