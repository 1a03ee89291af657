"""Which address a StatefulSet's ordinal has, so that its next pod gets it again. owner: the attachment that has it, or had it last."""

from alembic import op

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table sticky (
          place uuid primary key,
          cluster_id integer not null references cluster on delete cascade,
          namespace text not null,
          name text not null,
          ordinal bigint not null,
          network text not null,
          address4 inet,
          address6 inet,
          owner uuid not null,
          check (num_nonnulls(address4, address6) > 0))
    """)
    op.execute("create index on sticky (cluster_id)")


def downgrade() -> None:
    op.execute("drop table sticky")
