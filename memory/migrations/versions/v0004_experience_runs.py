"""Fourth form: the experience of a run is found by the run."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the index."""
    op.create_index("ix_experiences_run_id", "experiences", ["run_id"])


def downgrade() -> None:
    """Goes back to the third form."""
    op.drop_index("ix_experiences_run_id", "experiences")
