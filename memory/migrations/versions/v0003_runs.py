"""Third form: a run keeps where it is, who is at it, and whether it was asked to stop."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; what was under way before has no state to go on from."""
    op.add_column("runs", sa.Column("checkpoint", sa.Text()))
    op.add_column("runs", sa.Column("owner", sa.String(200)))
    op.add_column("runs", sa.Column("seen", sa.DateTime()))
    op.add_column(
        "runs", sa.Column("stopping", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    """Goes back to the second form; runs can no longer be gone on with."""
    for name in ("stopping", "seen", "owner", "checkpoint"):
        op.drop_column("runs", name)
