"""Whether a pod is ready, for those who ask for the peers of a workload."""

from alembic import op

revision = "0054"
down_revision = "0053"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table kube_pod add column ready boolean not null default false")


def downgrade() -> None:
    op.execute("alter table kube_pod drop column ready")
