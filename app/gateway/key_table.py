"""The API keys of a process, in memory: a look-up takes about a microsecond and waits for nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from app.errors import InvalidSettings, NoKeys, RetortError
from app.gateway.credentials import CredentialsRefused, Principal, credentials_of
from app.server.contract import Environ
from app.settings import Settings
from app.storage.keys import KEY, KeySource, StoredKey, read_entries

if TYPE_CHECKING:
    from app.gateway.tokens import IssuerTokens

log = logging.getLogger(__name__)

REFRESH_S = 2.0
"""Interval between two reads of the keys. A new key or a revocation takes effect within 5 seconds."""
MOST_VERDICTS = 4096
MOST_REFUSED = 256
"""Limits of the cached valid and refused credentials."""
NOT_VALID = "the key is not valid"


class KeysUnavailable(Exception):
    """The keys were not read for too long."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """The holder of checked credentials. The check is valid until `until_s` (monotonic)."""

    principal: Principal
    by_browser: bool
    until_s: float


@dataclass(frozen=True, slots=True)
class _State:
    """The keys as read at `read_s` (monotonic), and the credentials that were checked since."""

    keys: Mapping[str, StoredKey]
    read_s: float
    verdicts: dict[tuple[str | None, str | None], _Verdict] = field(default_factory=dict)
    refused: dict[tuple[str | None, str | None], tuple[str, str]] = field(default_factory=dict)
    """Both are caches: each request is looked up three times, and to check a token takes a hundred microseconds."""


class KeyTable:
    """The keys of one process. Safe to call from many threads.

    After `begin` a thread reads the keys every `REFRESH_S`. Servers other than Retort's do not call `begin`; under
    them, a look-up reads the keys if they are older.

    Attributes:
        required: whether requests need a key. Once a key has existed, they need one until the process ends.

    Args:
        source: reads the keys of the environment and the database.
        key_secret: `RETORT_KEY_SECRET`.
        grace_s: how long the last known keys stay valid while the database does not answer.
        tokens: checks tokens of an issuer, if one is configured.
    """

    def __init__(
        self, source: KeySource, key_secret: str = "", grace_s: float = 600.0, tokens: IssuerTokens | None = None
    ) -> None:
        self.source = source
        self.required = bool(source.given) or tokens is not None
        self._key_secret = key_secret
        self._grace_s = grace_s
        self._tokens = tokens
        self._has_had_keys = self.required
        self._given = {key.id: key for key in source.given}
        self._state = _State({}, float("-inf"))
        self._is_read = False
        self._failure = ""
        self._looked_s = float("-inf")
        self._reading = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    # --- reading

    def prepare(self, public: Sequence[str] = ()) -> None:
        """Read the keys in the master, and keep no connection. Called before the fork.

        Args:
            public: the addresses at which other machines will reach the server.

        Raises:
            RetortError: the server is public and has no key, or its keys cannot be read.
        """
        try:
            self.source.prepare()
            self.refresh()
        except RetortError:
            if public and not self.required:
                raise
            self.refresh()
        finally:
            self.source.close()
        self.check(public)
        log.info("requests need an API key" if self.required else "there is no API key, so requests need none")

    def check(self, public: Sequence[str]) -> None:
        """Refuse to serve addresses that other machines reach if the server has no key.

        Raises:
            NoKeys: the server has such an address and no key.
        """
        if public and not self.required:
            raise NoKeys(public[0], self.source.unusable)

    def begin(self) -> None:
        """Read the keys, and start a thread that reads them again and again. Called after the fork."""
        if self._tokens is not None:
            self._tokens.begin()
        self.refresh()
        self._thread = threading.Thread(target=self._refresh_repeatedly, name="retort-keys", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the connection."""
        self._stop.set()
        if self._tokens is not None:
            self._tokens.stop()
        if self._thread is not None:
            self._thread.join()
        self.source.close()

    def refresh(self) -> None:
        """Read the keys. If that fails, keep the last known ones; log the beginning and the end of a failure."""
        now_s = self._looked_s = time.monotonic()
        try:
            keys = {key.id: key for key in self.source.read()}
        except Exception as error:  # noqa: BLE001 - the thread must continue after any error of a driver
            cause = error.detail if isinstance(error, RetortError) else type(error).__name__
            if cause != self._failure:
                effect = "the last known ones hold" if self._is_read else "those in the database are refused"
                log.error("the API keys cannot be read, and %s: %s", effect, cause)
            self._failure = cause
            # Keep the keys but not the verdicts, so that all credentials are checked again.
            self._state = _State(self._state.keys, self._state.read_s)
            self.required = self._has_had_keys or not self._is_read
            return
        if self._failure:
            log.info("the API keys can be read again")
            self._failure = ""
        self._has_had_keys = self._has_had_keys or bool(keys)
        self._state, self._is_read = _State(keys, now_s), True
        self.required = self._has_had_keys

    def _refresh_repeatedly(self) -> None:
        while not self._stop.wait(REFRESH_S):
            self.refresh()

    def refresh_if_due(self) -> None:
        """Read the keys in this thread if no other thread does. Needed under servers that do not call `begin`."""
        if self._thread is None and time.monotonic() - self._looked_s > REFRESH_S and self._reading.acquire(False):
            try:
                self.refresh()
            finally:
                self._reading.release()

    # --- looking up

    def find(self, environ: Environ) -> tuple[Principal, bool]:
        """Return the caller of a request, and whether a browser may have added the key by itself.

        Raises:
            CredentialsRefused: the request has no valid key.
            KeysUnavailable: the keys were not read for too long.
        """
        fields = environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_X_API_KEY")
        now_s, state = time.monotonic(), self._state
        if (cached := state.verdicts.get(fields)) is not None and cached.until_s > now_s:
            return cached.principal, cached.by_browser
        if (refused := state.refused.get(fields)) is not None:
            raise CredentialsRefused(*refused)
        try:
            verdict = self._check_key(state, *credentials_of(*fields), now_s)
        except CredentialsRefused as error:
            if len(state.refused) >= MOST_REFUSED:
                state.refused.clear()
            state.refused[fields] = error.name, error.detail
            raise
        if len(state.verdicts) >= MOST_VERDICTS:
            state.verdicts.clear()
        state.verdicts[fields] = verdict
        return verdict.principal, verdict.by_browser

    def caller(self, environ: Environ) -> Principal | None:
        """Return the caller of a request; None if it has no valid key."""
        self.refresh_if_due()
        if not self.required:
            return None
        try:
            return self.find(environ)[0]
        except (CredentialsRefused, KeysUnavailable):
            return None

    def _check_key(self, state: _State, key: str, by_browser: bool, now_s: float) -> _Verdict:
        """Check a key or token, and return its holder and the time until which it needs no other check."""
        if self._tokens is not None and key.count(".") == 2:
            principal, expires_at = self._tokens.principal(key)
            return _Verdict(principal, by_browser, now_s + expires_at - time.time())
        match = KEY.fullmatch(key)
        key_id = match[1] if match else ""
        stored, until_s = self._given.get(key_id), float("inf")  # keys of the environment need no database
        if stored is None:
            stored, until_s = state.keys.get(key_id), state.read_s + self._grace_s
            if now_s > until_s:
                raise KeysUnavailable
        if stored is None or not stored.matches(key, self._key_secret):
            raise CredentialsRefused("key-refused", NOT_VALID)
        if (key_state := stored.state(time.time())) != "valid":
            raise CredentialsRefused("key-refused", f"the key {stored.id} {_ENDED[key_state]}")
        if stored.expires_at is not None:
            until_s = min(until_s, now_s + stored.expires_at - time.time())
        principal = Principal(stored.id, stored.name, stored.scopes, stored.models)
        return _Verdict(principal, by_browser, until_s)


_ENDED = {"revoked": "was revoked", "expired": "has expired"}


def key_table(settings: Settings) -> KeyTable:
    """Return the table that the settings describe, without opening or fetching anything.

    Raises:
        InvalidSettings: an entry of `RETORT_API_KEYS` cannot be read, or tokens need a library that is not installed.
    """
    try:
        given = read_entries(settings.api_keys)
    except ValueError as error:
        raise InvalidSettings([f"RETORT_API_KEYS: {error}"]) from None
    source = KeySource(given, settings.database_url, settings.instance_dir)
    return KeyTable(source, settings.key_secret, settings.keys_grace_s, _tokens(settings))


def _tokens(settings: Settings) -> IssuerTokens | None:
    if not settings.oidc_issuer:
        return None
    if not settings.oidc_audience:
        raise InvalidSettings(
            ["RETORT_OIDC_ISSUER needs RETORT_OIDC_AUDIENCE: tokens for other services must not count"]
        )
    if find_spec("jwt") is None:
        raise InvalidSettings(["RETORT_OIDC_ISSUER needs PyJWT: pip install 'pyjwt[crypto]'"])
    from app.gateway.tokens import IssuerTokens  # it imports an HTTP client, which few servers need

    return IssuerTokens(settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks_url)
