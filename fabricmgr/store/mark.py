"""A mark: how far this database's log has come. What an agent has seen acknowledged lies before the mark it was given with."""

# System identifier, timeline, position. The position is that of the log's writing end, so it is never behind what was committed.
MARK = """
select system_identifier || ':' || ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int || ':'
  || pg_current_wal_insert_lsn() as mark from pg_control_system()
"""


def is_past(quoted: str, here: str) -> bool:
    """Whether a mark that somebody quotes lies in the past of the database that is at `here`. Nothing quoted is.

    Of another timeline nobody can tell from the mark alone: it does not count as past, so that its holder is heard."""
    if not quoted:
        return True
    theirs, ours = _parse(quoted), _parse(here)
    return theirs is not None and ours is not None and theirs[:2] == ours[:2] and theirs[2] <= ours[2]


def _parse(mark: str) -> tuple[str, str, int] | None:
    try:
        system, timeline, position = mark.split(":")
        high, low = position.split("/")
        return system, timeline, (int(high, 16) << 32) | int(low, 16)
    except ValueError:
        return None
