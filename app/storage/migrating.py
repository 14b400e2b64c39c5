"""Bring the tables of Retort up to date. Importing this module needs the extra `database`."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Engine, inspect

from app.errors import DatabaseUnavailable
from app.storage.database import LOCKED_WITHIN_MS, sqlite_file

NEWEST = "0003"
"""The newest migration in `migrations/versions`."""
VERSION_TABLE = "retort_migrations"
"""Alembic's table. Its usual name belongs to an application in the same database."""
MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 7_264_173_001
"""The number of the lock in PostgreSQL that lets one process at a time migrate."""


def migrate(engine: Engine) -> None:
    """Make the database and the tables, or bring them up to date.

    Raises:
        DatabaseUnavailable: a newer release has made the tables.
        sqlalchemy.exc.SQLAlchemyError, OSError: the database does not answer, or does not allow it.
    """
    file = sqlite_file(engine.url)
    if file is not None and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
    with engine.connect() as connection:
        if inspect(connection).has_table(VERSION_TABLE):
            version = connection.exec_driver_sql(f"select version_num from {VERSION_TABLE}").scalar()  # noqa: S608
            if version == NEWEST:
                return
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"set local lock_timeout = {LOCKED_WITHIN_MS}")
            connection.exec_driver_sql(f"select pg_advisory_xact_lock({LOCK})")
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        try:
            command.upgrade(config, "head")
        except CommandError as error:  # a newer Retort has made the tables
            raise DatabaseUnavailable(str(file or engine.url.database), str(error)) from None
