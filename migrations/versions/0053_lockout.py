"""Lockout rules that all managers share, in place of each one's settings."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("alter table client_login drop column lockout_attempts, drop column lockout_seconds")
