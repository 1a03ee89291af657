"""What a node's agent finds wrong with its network, and how often the manager asked it to look again."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("alter table node drop column looks, drop column faults")
