"""Make, hash, check and encode API keys, and find the keys of a server.

`key_store` keeps them in a database.

A key is `retort_<id>_<secret>`. The secret has 256 random bits and is stored nowhere. Retort stores the HMAC-SHA256 of
the whole key, with the key's own salt followed by `RETORT_KEY_SECRET`. Nobody can guess 256 random bits, so a slow hash
would only cost time.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import logging
import re
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from app.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from app.storage.key_store import KeyStore

log = logging.getLogger(__name__)

PREDICT, ADMIN, METRICS = "predict", "admin", "metrics"
SCOPES = (PREDICT, ADMIN, METRICS)
PREFIX = "retort_"
KEY = re.compile(r"retort_([a-z0-9]{12})_[A-Za-z0-9_-]{43}")
ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
ID_CHARS, SECRET_BYTES, SALT_BYTES = 12, 32, 16
ENTRY_MEMBERS = frozenset({"id", "name", "scope", "model", "created", "expires", "hash"})
FILE_NAME = "retort.db"
NEEDS_EXTRA = "SQLAlchemy is not installed: pip install sqlalchemy alembic"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as it is stored. Times are whole seconds since 1970. `models` is None if the key may use all models."""

    id: str
    name: str
    scopes: frozenset[str]
    models: frozenset[str] | None
    salt: bytes
    digest: bytes
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def matches(self, key: str, key_secret: str) -> bool:
        """Return whether this is the stored form of a key. The comparison takes the same time for every key."""
        return hmac.compare_digest(_digest(key, self.salt, key_secret), self.digest)

    def state(self, now_s: float) -> str:
        """Return `valid`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now_s >= self.expires_at else "valid"

    def entry(self) -> str:
        """Return the key as an entry of `RETORT_API_KEYS`: one word without commas."""
        members = {"id": self.id, "name": self.name, "scope": " ".join(sorted(self.scopes))}
        if self.models is not None:
            members["model"] = " ".join(sorted(self.models))
        members["created"] = str(self.created_at)
        if self.expires_at is not None:
            members["expires"] = str(self.expires_at)
        return urlencode({**members, "hash": f"{self.salt.hex()}.{self.digest.hex()}"})


def make_key(
    name: str,
    scopes: Collection[str],
    models: Collection[str] | None = None,
    lifetime_s: int | None = None,
    key_secret: str = "",
) -> tuple[str, StoredKey]:
    """Make a key.

    Returns:
        The key itself, which is shown once, and its stored form.
    """
    now, key_id = int(time.time()), "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_CHARS))
    key, salt = f"{PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}", secrets.token_bytes(SALT_BYTES)
    allowed = None if models is None else frozenset(models)
    expires_at = None if lifetime_s is None else now + lifetime_s
    stored = StoredKey(key_id, name, frozenset(scopes), allowed, salt, _digest(key, salt, key_secret), now, expires_at)
    return key, stored


def remade(old: StoredKey, key_secret: str) -> tuple[str, StoredKey]:
    """Make a key with the name, scopes, models and lifetime of another one."""
    lifetime_s = None if old.expires_at is None else old.expires_at - old.created_at
    return make_key(old.name, old.scopes, old.models, lifetime_s, key_secret)


def ended(key: StoredKey, overlap_s: int = 0) -> StoredKey:
    """Return a key as revoked; with `overlap_s`, return it so that it expires after that time at the latest."""
    now = int(time.time())
    if not overlap_s:
        return replace(key, revoked_at=key.revoked_at or now)
    return replace(key, expires_at=min(key.expires_at or now + overlap_s, now + overlap_s))


def read_entries(entries: Sequence[str]) -> list[StoredKey]:
    """Read the entries of `RETORT_API_KEYS`.

    Raises:
        ValueError: one cannot be read; the message has its number, but nothing of its content.
    """
    keys = []
    for number, entry in enumerate(entries, start=1):
        try:
            keys.append(_read(entry))
        except (KeyError, ValueError):
            raise ValueError(f"entry {number} is not one that `flask keys create --print-hash` printed") from None
    return keys


def _read(entry: str) -> StoredKey:
    members = dict(parse_qsl(entry, keep_blank_values=True, strict_parsing=True))
    salt, digest = (bytes.fromhex(part) for part in members["hash"].split("."))
    scopes, models = frozenset(members["scope"].split()), members.get("model")
    if not (members.keys() <= ENTRY_MEMBERS and scopes and scopes <= {*SCOPES} and len(digest) == 32):
        raise ValueError(entry)
    return StoredKey(
        members["id"],
        members["name"],
        scopes,
        None if models is None else frozenset(models.split()),
        salt,
        digest,
        int(members["created"]),
        int(members["expires"]) if "expires" in members else None,
    )


def _digest(key: str, salt: bytes, key_secret: str) -> bytes:
    return hmac.digest(salt + key_secret.encode(), key.encode("latin-1"), hashlib.sha256)


class KeySource:
    """The keys of the environment and of a database. SQLAlchemy is imported when a database is first used.

    Args:
        given: the keys of the environment.
        database_url: the database; empty: the file `retort.db` in `folder`.
        folder: the folder of that file. Storing the first key makes both.
    """

    def __init__(self, given: Sequence[StoredKey], database_url: str, folder: Path) -> None:
        self.given = given
        self.unusable = ""
        """The reason why the database cannot hold keys: its URL or its driver. Empty if it can."""
        self._database_url = database_url
        self._file = folder.absolute() / FILE_NAME
        self._store: KeyStore | None = None

    def read(self) -> list[StoredKey]:
        """Return all keys, including revoked and expired ones.

        Raises:
            DatabaseUnavailable: the database cannot be read now.
        """
        has_database = self._database_url or self._store is not None or self._file.exists()
        if not has_database or self.unusable:
            return [*self.given]
        try:
            store = self.store()
        except DatabaseUnavailable as error:
            if not self._database_url:
                raise
            # A platform may set the variable for another program. Then this installation never stored a key there.
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
        """Return the store of the keys in the database.

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
