"""Open the database that `DATABASE_URL` names, and migrate its tables.

Importing this module needs the extra `database`.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, MetaData, create_engine, exc, inspect, make_url

from app.errors import DatabaseUnavailable

CONNECT_TIMEOUT_S = 3
NEEDS_DRIVER = "its driver is not installed: pip install 'psycopg[binary]'"
LOCK_TIMEOUT_MS = 5000
"""Longest wait of PostgreSQL for a lock. It is the default of SQLite's driver."""
TABLES = MetaData()
"""All tables of Retort."""
SILENT_TIMEOUT_MS = 5000
"""After this time without an acknowledgement of sent bytes, the connection to PostgreSQL counts as lost."""
NEWEST = "0003"
"""The newest migration in `migrations/versions`."""
VERSION_TABLE = "retort_migrations"
"""Alembic's table. Another application in the same database may use its default name."""
MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 7_264_173_001
"""The number of PostgreSQL's advisory lock that a migrating process takes."""


def database_url(text: str) -> URL:
    """Return the URL of a database. PostgreSQL gets the driver psycopg if the URL names none and psycopg is installed.

    Platforms set `postgres://`, an older name that SQLAlchemy does not know.

    Raises:
        sqlalchemy.exc.ArgumentError: it is no URL of a database.
    """
    url = make_url("postgresql" + text.removeprefix("postgres") if text.startswith("postgres://") else text)
    if url.drivername == "postgresql" and importlib.util.find_spec("psycopg") is not None:
        return url.set(drivername="postgresql+psycopg")
    return url


def blocking_url(text: str) -> URL:
    """Return the URL of a database with a blocking driver, even if the URL names an async one.

    Raises:
        sqlalchemy.exc.ArgumentError: it is no URL of a database.
    """
    url = database_url(text)
    if url.get_dialect().is_async:
        return database_url(url.set(drivername=url.get_backend_name()).render_as_string(hide_password=False))
    return url


def own_url(text: str, file: Path) -> URL:
    """Return the URL of the database of Retort's own tables: `DATABASE_URL`, or an SQLite file if that is empty.

    Raises:
        DatabaseUnavailable: it is no URL of a database, or SQLAlchemy does not know its driver.
    """
    try:
        return blocking_url(text or f"sqlite:///{file}")
    except (exc.ArgumentError, ValueError):
        raise DatabaseUnavailable("DATABASE_URL", "it is no URL that SQLAlchemy can read") from None
    except ImportError as error:
        raise DatabaseUnavailable("DATABASE_URL", str(error)) from None


def sqlite_file(url: URL) -> Path | None:
    """Return the file of an SQLite database; None for other databases, and for one in memory."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def make_engine(url: URL) -> Engine:
    """Return an engine with one connection, which is opened when it is first used.

    Raises:
        DatabaseUnavailable: the driver of the database is not installed.
    """
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.get_backend_name() == "postgresql":
        waits = {"connect_timeout": CONNECT_TIMEOUT_S, "tcp_user_timeout": SILENT_TIMEOUT_MS}
        options |= {"pool_size": 1, "max_overflow": 1, "connect_args": waits}
    try:
        return create_engine(url, **options)
    except (ImportError, exc.ArgumentError) as error:
        is_missing = isinstance(error, ImportError) and url.drivername in ("postgresql", "postgresql+psycopg")
        raise DatabaseUnavailable(_shown(url), NEEDS_DRIVER if is_missing else str(error).splitlines()[0]) from None


@contextmanager
def database_errors(url: URL) -> Iterator[None]:
    """Turn errors of a database into DatabaseUnavailable, without the password, the statement and its values.

    Raises:
        DatabaseUnavailable: something in the block failed.
    """
    try:
        yield
    except exc.SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines() or [""]
        raise DatabaseUnavailable(_shown(url), cause[0][:200]) from None
    except OSError as error:
        raise DatabaseUnavailable(_shown(url), str(error.strerror or error)) from None


def _shown(url: URL) -> str:
    """Return a URL without its user, password and options."""
    return URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()


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
            connection.exec_driver_sql(f"set local lock_timeout = {LOCK_TIMEOUT_MS}")
            connection.exec_driver_sql(f"select pg_advisory_xact_lock({LOCK})")
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        try:
            command.upgrade(config, "head")
        except CommandError as error:  # a newer Retort has made the tables
            raise DatabaseUnavailable(str(file or engine.url.database), str(error)) from None
