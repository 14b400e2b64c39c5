"""Run the migrations over the connection that the caller opened. Alembic runs this file."""

from alembic import context


def migrate() -> None:
    """Run the migrations in one transaction."""
    given = context.config.attributes
    context.configure(connection=given["connection"], version_table=given["version_table"])
    with context.begin_transaction():
        context.run_migrations()


if hasattr(context, "config"):  # Alembic runs this file; else it was only imported
    migrate()
