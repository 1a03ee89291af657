"""NOTIFY only wakes: whoever listens looks into the tables, and finds there what it may have missed."""

from sqlalchemy import DateTime, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

OUTBOX_CHANNEL = "fabricmgr_outbox"  # events wait for their positions
EVENT_CHANNEL = "fabricmgr_event"  # events were positioned; the payload is the newest position
VOICE_CHANNEL = "fabricmgr_voice"  # something that decides who announces an address has changed
ANNOUNCE_CHANNEL = "fabricmgr_announce"  # other nodes are to announce addresses

# One statement, so that a change's events get neighbouring ids in their order, and the outbox is woken when they are committed.
OUTBOX_STATEMENT = text(
    f"""
    with told as (
      insert into outbox (at, what, about)
      select :now, e ->> 'what', e -> 'about'
      from jsonb_array_elements(:told) with ordinality as t (e, place)
      order by place
      returning id
    )
    select pg_notify('{OUTBOX_CHANNEL}', '') from (select from told limit 1) as one
    """
).bindparams(bindparam("told", type_=JSONB), bindparam("now", type_=DateTime(timezone=True)))

# A change that waiting agents must see, though it is no event.
WAKE_STATEMENT = text(f"select pg_notify('{OUTBOX_CHANNEL}', '')")

# What the elections of announcers look at has changed; and what they decided.
VOICE_STATEMENT = text(f"select pg_notify('{VOICE_CHANNEL}', '')")
ANNOUNCE_STATEMENT = text(f"select pg_notify('{ANNOUNCE_CHANNEL}', '')")
