"""Switches, ports, endpoints and zones."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0040"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    for table in ("zone_pool", "zone_endpoint", "zone", "endpoint", "port", "switch"):
        op.execute(f"drop table {table}")
