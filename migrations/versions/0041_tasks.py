"""Tasks, and a pool's own thresholds."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0041"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("alter table pool drop column warning, drop column critical")
    op.execute("drop table task")
