"""A mark: how far this database's log has come. What an agent has seen acknowledged lies before the mark it was given with."""

# System identifier, timeline, position. The position is that of the log's writing end, so it is never behind what was committed.
MARK = """
select system_identifier || ':' || ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int || ':'
  || pg_current_wal_insert_lsn() as mark from pg_control_system()
"""
