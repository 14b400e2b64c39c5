"""API keys in a database. Importing this module needs the extra `database`."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import Any

from sqlalchemy import URL, BigInteger, Column, LargeBinary, String, Table, Text, inspect, select

from app.errors import DatabaseUnavailable, KeyNotFound
from app.storage.database import TABLES, database_errors, make_engine, migrate, sqlite_file
from app.storage.keys import StoredKey

log = logging.getLogger(__name__)

KEYS = Table(
    "retort_api_keys",
    TABLES,
    Column("id", String(32), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("scopes", String(200), nullable=False),
    Column("models", Text),
    Column("salt", LargeBinary(32), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)
"""`scopes` are separated by spaces, `models` is a JSON list or null, times are seconds since 1970."""


class KeyStore:
    """The keys in one database. Its first use opens the connection. Safe to call from many threads.

    Each method raises `DatabaseUnavailable` if the database does not answer; so does making the store if the driver is
    not installed.

    Reading does not create or change a database or a table. A database without our table has no keys. After the table
    was read once, its absence is an error: otherwise a server that lost its table would let everybody in.
    """

    def __init__(self, url: URL) -> None:
        self._url = url
        self._file = sqlite_file(url)
        self._engine = make_engine(url)
        self._is_seen = False
        self._inode = 0

    def read(self) -> list[StoredKey]:
        """Return all keys, including revoked and expired ones, the oldest first.

        Raises:
            DatabaseUnavailable: the table that was there is gone.
        """
        if self._file is not None and not self._file.exists():
            if self._is_seen:
                raise DatabaseUnavailable(str(self._file), "the file is gone")
            return []
        self._close_replaced_file()
        with database_errors(self._url), self._engine.connect() as connection:
            if not self._is_seen and not inspect(connection).has_table(KEYS.name):
                return []
            self._is_seen = True
            rows = connection.execute(select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id)).mappings()
            return [_key(dict(row)) for row in rows]

    def _close_replaced_file(self) -> None:
        """Close the connection to an SQLite file that was replaced by another one, such as a restored backup."""
        if self._file is not None:
            with database_errors(self._url), suppress(FileNotFoundError):
                inode = self._file.stat().st_ino
                if self._inode not in (0, inode):
                    self._engine.dispose()
                self._inode = inode

    def add(self, key: StoredKey, instead_of: StoredKey | None = None) -> None:
        """Store a new key and, in the same transaction, the changed form of the key that it replaces."""
        if self._url.get_backend_name() == "sqlite" and self._file is None:
            raise DatabaseUnavailable(str(self._url), "it is in memory, where keys would be lost")
        self.migrate()
        with database_errors(self._url), self._engine.begin() as connection:
            connection.execute(KEYS.insert().values(_row(key)))
            if instead_of is not None:
                connection.execute(KEYS.update().where(KEYS.c.id == instead_of.id).values(_row(instead_of)))

    def change(self, key: StoredKey) -> None:
        """Store the changed form of a key."""
        with database_errors(self._url), self._engine.begin() as connection:
            connection.execute(KEYS.update().where(KEYS.c.id == key.id).values(_row(key)))

    def key(self, key_id: str) -> StoredKey:
        """Return one key.

        Raises:
            KeyNotFound: there is none with this id.
        """
        keys = {key.id: key for key in self.read()}
        if key_id not in keys:
            raise KeyNotFound(key_id)
        return keys[key_id]

    def migrate(self) -> None:
        """Make the database and the table, or bring the table up to date.

        Raises:
            DatabaseUnavailable: the database does not allow it.
        """
        with database_errors(self._url):
            migrate(self._engine)

    def bring_up_to_date(self) -> None:
        """Migrate the table if there is one. A database that does not allow it is used as it is."""
        if self.read() or self._is_seen:
            try:
                self.migrate()
            except DatabaseUnavailable as error:
                log.warning("the table of API keys could not be brought up to date: %s", error.detail)

    def close(self) -> None:
        """Close the connection. The next use opens another one."""
        self._engine.dispose()


def _key(row: dict[str, Any]) -> StoredKey:
    models = None if row["models"] is None else frozenset(json.loads(row["models"]))
    return StoredKey(**row | {"scopes": frozenset(row["scopes"].split()), "models": models})


def _row(key: StoredKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": " ".join(sorted(key.scopes)),
        "models": None if key.models is None else json.dumps(sorted(key.models)),
        "salt": key.salt,
        "digest": key.digest,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
