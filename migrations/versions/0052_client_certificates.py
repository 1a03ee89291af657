"""Accounts that log in by client certificate, and nodes found by the certificate itself instead of its serial."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("drop index certificate_fingerprint_idx")
    for table in ("account_certificate", "client_authority", "client_login"):
        op.execute(f"drop table {table}")
