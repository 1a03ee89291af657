"""Who announces addresses of Services, and what nodes say of it."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0055"
down_revision = "0054"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("update service set state = 'assigned' where state in ('moving', 'leaving')")
    op.execute("alter table service drop constraint service_state_check")
    op.execute("alter table service add constraint service_state_check check (state in ('pending', 'assigned', 'withdrawing'))")
    op.execute("alter table service drop column endpoints, drop column former")
    op.execute("drop table voice")
    op.execute("drop table announcer")
    op.execute("alter table announcement drop column successor_id, drop column reason, add column beat_at timestamptz")
