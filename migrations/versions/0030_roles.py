"""Roles of one's own: what a role may do stands in a table, and an account names one that exists."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0030"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("alter table account drop constraint account_role_fkey")
    op.execute("drop index account_role_idx")
    op.execute("drop table role")
