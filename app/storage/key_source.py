"""The API keys of a server: from `RETORT_API_KEYS`, and from a database if there is one."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import DatabaseUnavailable
from app.storage.keys import StoredKey

if TYPE_CHECKING:
    from app.storage.key_store import KeyStore

log = logging.getLogger(__name__)

FILE_NAME = "retort.db"
NEEDS_EXTRA = "SQLAlchemy is not installed: pip install sqlalchemy alembic"


class KeySource:
    """The keys of the environment and of a database. SQLAlchemy is imported when a database is first used.

    Args:
        given: the keys of the environment.
        database_url: the database; empty: the file `retort.db` in `folder`.
        folder: the folder of that file. Neither is made before the first key is stored.
    """

    def __init__(self, given: Sequence[StoredKey], database_url: str, folder: Path) -> None:
        self.given = given
        self.unusable = ""
        """Why no key can be in the database: its URL or its driver. Empty if one can."""
        self._database_url = database_url
        self._file = folder.absolute() / FILE_NAME
        self._store: KeyStore | None = None

    def read(self) -> list[StoredKey]:
        """Return all keys, also revoked and expired ones.

        Raises:
            DatabaseUnavailable: the database cannot be read now.
        """
        is_there = self._database_url or self._store is not None or self._file.exists()
        if not is_there or self.unusable:
            return [*self.given]
        try:
            store = self.store()
        except DatabaseUnavailable as error:
            if not self._database_url:
                raise
            # A platform may set the variable for another program: no key was ever stored there by this installation.
            self.unusable = error.detail
            log.warning("no API key is read from DATABASE_URL: %s", error.detail)
            return [*self.given]
        return [*store.read(), *self.given]

    def prepare(self) -> None:
        """Bring the table up to date and read the keys, then close the connection, because a fork follows.

        Raises:
            DatabaseUnavailable: the database cannot be read now.
        """
        self.read()
        if self._store is not None:
            try:
                self._store.bring_up_to_date()
            finally:
                self._store.close()

    def store(self) -> KeyStore:
        """Return the keys of the database.

        Raises:
            DatabaseUnavailable: the URL cannot be used, or SQLAlchemy or the driver is not installed.
        """
        if self._store is None:
            if importlib.util.find_spec("sqlalchemy") is None:
                raise DatabaseUnavailable("DATABASE_URL" if self._database_url else str(self._file), NEEDS_EXTRA)
            from app.storage.database import own_url
            from app.storage.key_store import KeyStore

            self._store = KeyStore(own_url(self._database_url, self._file))
        return self._store

    def close(self) -> None:
        """Close the connection of the database."""
        if self._store is not None:
            self._store.close()
