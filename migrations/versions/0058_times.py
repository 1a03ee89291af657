"""History has the time of a change at its node, not that of the report; an older manager goes on calling the former functions."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0058"
down_revision = "0057"
branch_labels = None
depends_on = None

_FUNCTIONS = "report_batch_2, report_assigned_2, report_released_2, report_gone_2, tell_2"


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute(f"drop function {_FUNCTIONS}")
    op.execute("alter table report drop column told_at")
