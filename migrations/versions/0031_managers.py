"""Managers of a database know of each other, and a server certificate given to one of them outlives its machine."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0031"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("drop table manager_process")
