"""The writer's batch at a lower price; an older manager goes on calling the former one."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0056"
down_revision = "0055"
branch_labels = None
depends_on = None

_FUNCTIONS = "allocate_batch_2, alike_2, picked_2, put_back_2, take_2, take_fresh_2, central_block_2, free_run_2"


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute(f"drop function {_FUNCTIONS}")
