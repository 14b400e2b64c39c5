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
"""A new key and a revocation hold after this time and that of a look into the database: within 5 seconds."""
MOST_VERDICTS = 4096
MOST_REFUSED = 256
NOT_VALID = "the key is not valid"


class KeysUnavailable(Exception):
    """The keys were not read for too long."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    principal: Principal
    by_browser: bool
    until_s: float


@dataclass(frozen=True, slots=True)
class _State:
    """The keys at one moment, and the credentials that were checked since. `read_s` is monotonic."""

    keys: Mapping[str, StoredKey]
    read_s: float
    verdicts: dict[tuple[str | None, str | None], _Verdict] = field(default_factory=dict)
    refused: dict[tuple[str | None, str | None], tuple[str, str]] = field(default_factory=dict)
    """A request is looked up three times, and checking a token takes a hundred microseconds."""


class KeyTable:
    """The keys of one process. Safe to call from many threads.

    After `begin` a thread reads the keys every `REFRESH_S`. Without `begin`, under another server than Retort's, a
    look-up reads them if they are older.

    Attributes:
        required: requests need a key. Once there was one, this stays so until the process ends.

    Args:
        source: where the keys are.
        key_secret: `RETORT_KEY_SECRET`.
        grace_s: how long the last known keys hold while the database does not answer.
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
            RetortError: there are such addresses and no keys; or the keys cannot be read, so that nobody knows.
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
        """Refuse to serve addresses that other machines reach while there is no key.

        Raises:
            NoKeys: there is none.
        """
        if public and not self.required:
            raise NoKeys(public[0], self.source.unusable)

    def begin(self) -> None:
        """Read the keys, and go on reading them in a thread. Called after the fork."""
        if self._tokens is not None:
            self._tokens.begin()
        self.refresh()
        self._thread = threading.Thread(target=self._go_on, name="retort-keys", daemon=True)
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
        """Read the keys. If that fails, keep those that are known; log the beginning and the end of a failure."""
        now_s = self._looked_s = time.monotonic()
        try:
            found = {key.id: key for key in self.source.read()}
        except Exception as error:  # noqa: BLE001 - the thread goes on, whatever a driver raises
            cause = error.detail if isinstance(error, RetortError) else type(error).__name__
            if cause != self._failure:
                known = "the last known ones hold" if self._is_read else "those in the database are refused"
                log.error("the API keys cannot be read, and %s: %s", known, cause)
            self._failure = cause
            # The verdicts are dropped, so that each is made anew.
            self._state = _State(self._state.keys, self._state.read_s)
            self.required = self._has_had_keys or not self._is_read
            return
        if self._failure:
            log.info("the API keys can be read again")
            self._failure = ""
        self._has_had_keys = self._has_had_keys or bool(found)
        self._state, self._is_read = _State(found, now_s), True
        self.required = self._has_had_keys

    def _go_on(self) -> None:
        while not self._stop.wait(REFRESH_S):
            self.refresh()

    def refresh_if_due(self) -> None:
        """Read the keys in this thread if no other does it. Called under servers that did not call `begin`."""
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
        shown = environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_X_API_KEY")
        now_s, state = time.monotonic(), self._state
        if (known := state.verdicts.get(shown)) is not None and known.until_s > now_s:
            return known.principal, known.by_browser
        if (refused := state.refused.get(shown)) is not None:
            raise CredentialsRefused(*refused)
        try:
            verdict = self._verdict(state, *credentials_of(*shown), now_s)
        except CredentialsRefused as error:
            if len(state.refused) >= MOST_REFUSED:
                state.refused.clear()
            state.refused[shown] = error.name, error.detail
            raise
        if len(state.verdicts) >= MOST_VERDICTS:
            state.verdicts.clear()
        state.verdicts[shown] = verdict
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

    def _verdict(self, state: _State, key: str, by_browser: bool, now_s: float) -> _Verdict:
        """Check a key or token, and say until when (monotonic) they need no other check."""
        if self._tokens is not None and key.count(".") == 2:
            principal, expires_at = self._tokens.principal(key)
            return _Verdict(principal, by_browser, now_s + expires_at - time.time())
        match = KEY.fullmatch(key)
        key_id = match[1] if match else ""
        stored, holds_s = self._given.get(key_id), float("inf")  # those of the environment need no database
        if stored is None:
            stored, holds_s = state.keys.get(key_id), state.read_s + self._grace_s
            if now_s > holds_s:
                raise KeysUnavailable
        if stored is None or not stored.matches(key, self._key_secret):
            raise CredentialsRefused("key-refused", NOT_VALID)
        if (found := stored.state(time.time())) != "valid":
            raise CredentialsRefused("key-refused", f"the key {stored.id} {_ENDED[found]}")
        if stored.expires_at is not None:
            holds_s = min(holds_s, now_s + stored.expires_at - time.time())
        principal = Principal(stored.id, stored.name, stored.scopes, stored.models)
        return _Verdict(principal, by_browser, holds_s)


_ENDED = {"revoked": "was revoked", "expired": "has expired"}


def key_table(settings: Settings) -> KeyTable:
    """Return the table as the settings describe it. Nothing is opened or fetched.

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
    from app.gateway.tokens import IssuerTokens  # it imports clients of HTTP, which few servers need

    return IssuerTokens(settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks_url)
