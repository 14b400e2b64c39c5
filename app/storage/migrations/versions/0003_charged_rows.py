"""Note how many rows of a job were charged to its owner."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("retort_jobs", sa.Column("charged_rows", sa.BigInteger, nullable=False, server_default="0"))
