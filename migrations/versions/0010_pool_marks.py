"""Thresholds of pools are told once; central blocks that stand empty can be claimed again."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0010"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("drop function empty_central_1")
    op.execute("drop table pool_mark")
