"""Make the table of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "retort_jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(500), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("input_name", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("keep", sa.Text, nullable=False),
        sa.Column("max_rejects", sa.BigInteger),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("lease", sa.String(64)),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("takes", sa.Integer, nullable=False),
        sa.Column("parts_done", sa.BigInteger, nullable=False),
        sa.Column("parts", sa.BigInteger),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.BigInteger, nullable=False),
        sa.Column("fraction", sa.Double, nullable=False),
        sa.Column("rows_per_s", sa.Double, nullable=False),
        sa.Column("left_s", sa.Double),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("owner", "idempotency_key", name="retort_jobs_idempotency"),
    )
    op.create_index("retort_jobs_by_state", "retort_jobs", ["state"])
