"""API servers of clusters, what they show, Services and their announcements; selectors of pools."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0050"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute("alter table network drop column namespaces_found")
    op.execute("alter table pool drop column selectors, drop column priority, drop column auto_assign")
    for table in ("announcement", "service", "workload", "kube_pod", "kube_namespace", "kube_node", "cluster_api"):
        op.execute(f"drop table {table}")
