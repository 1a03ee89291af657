"""The writer's functions: allocate, release and report, a batch a call."""

from pathlib import Path

from alembic import op

from fabricmgr.store.script import execute_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_FUNCTIONS = (
    "retire_central_1, end_allocations_1, pressed_1, claim_1, tail_1, unreserved_1, reach_1, skip_to_1, hold_back_1, add_family_1, "
    "report_gone_1, report_released_1, report_assigned_1, step_aside_1, "
    "held_prefix_1, report_batch_1, tell_1, "
    "release_batch_1, spare_1, allocate_batch_1, take_1, take_spares_1, take_fresh_1, central_block_1, walk_after_1, walk_from_1, "
    "lock_supply_1, next_block_1, is_assignable_1, free_run_1"
)


def upgrade() -> None:
    execute_script(op.get_bind(), Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    op.execute(f"drop function {_FUNCTIONS}")
