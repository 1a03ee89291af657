"""The foundation: clusters, pools, blocks, allocations, nodes, events, accounts."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    "audit, login_failure, session, account, event, outbox, history, report, spare, allocation, block, certificate, token, node, "
    "network_pool, network, supply, reservation, prefix, pool, cluster, secret, installation"
)


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute(f"drop table {_TABLES}")
    op.execute("drop sequence history_id")
    op.execute("drop function block_inside_prefix_1, allocation_inside_prefix_1")
