"""Subscriptions to events outlive whoever delivers to them."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0020"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("drop table subscription, event_service")
