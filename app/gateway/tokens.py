"""Tokens of an OpenID Connect issuer in place of API keys: JWTs, checked with the keys that the issuer publishes.

Sources: RFC 7519 (JWT), RFC 8725 (its best practices), OpenID Connect Discovery 1.0. Needs the extra `oidc`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.request import HTTPRedirectHandler, build_opener

from app.gateway.credentials import CredentialsRefused, Principal
from app.gateway.key_table import KeysUnavailable

if TYPE_CHECKING:
    from jwt import PyJWK

log = logging.getLogger(__name__)

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Only asymmetric algorithms: with others, anybody could sign a token with the public key as the secret."""
REQUIRED = ["exp", "iss", "aud", "sub"]
LEEWAY_S = 10
REFRESH_S = 300.0
SOONEST_S = 10.0
"""Shortest time between two fetches. A token with an unknown key causes a fetch before `REFRESH_S` has passed."""
MAX_AGE_S = 3600.0
"""Fetched keys stay valid for this long while the issuer does not answer."""
FETCH_TIMEOUT_S = 5.0
MOST_BYTES = 2**20
MAX_ID_CHARS = 128


class IssuerTokens:
    """Checker of the tokens of one issuer. A thread fetches the issuer's keys. Safe to call from many threads.

    Args:
        issuer: the issuer's URL, exactly as in the claim `iss`.
        audience: the claim `aud` must be this or contain it.
        jwks_url: the URL of the keys; if empty, it is read from the issuer's configuration.
    """

    def __init__(self, issuer: str, audience: str, jwks_url: str = "") -> None:
        self._issuer = issuer
        self._audience = audience
        self._jwks_url = jwks_url
        self._keys: tuple[Mapping[str, PyJWK], float] = {}, float("-inf")
        """The issuer's keys by their id, and when they were fetched (monotonic)."""
        self._fetched_s = float("-inf")
        self._failure = ""
        self._needs_fetch, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Fetch the keys, and start a thread that fetches them again and again. Called after the fork."""
        self.fetch()
        self._thread = threading.Thread(target=self._fetch_repeatedly, name="retort-tokens", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._needs_fetch.set()
        if self._thread is not None:
            self._thread.join()

    def principal(self, token: str) -> tuple[Principal, float]:
        """Return the holder of a token and the time when it expires.

        Raises:
            CredentialsRefused: the signature, issuer or audience is wrong, or the token is not valid now.
            KeysUnavailable: the issuer's keys were never fetched, or too long ago.
        """
        import jwt

        if self._thread is None:  # under another server than Retort's
            self.begin()
        keys, fetched_s = self._keys
        if time.monotonic() > fetched_s + MAX_AGE_S:
            self._needs_fetch.set()
            raise KeysUnavailable
        try:
            header = jwt.get_unverified_header(token)
            key = keys.get(str(header.get("kid", "")))
            if key is None:
                self._needs_fetch.set()
                raise CredentialsRefused("key-refused", "the token is signed with a key that the issuer does not list")
            if header.get("alg") not in ALGORITHMS or key.algorithm_name != header["alg"]:
                raise CredentialsRefused("key-refused", "the token is signed with an algorithm that is not allowed")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": REQUIRED},
            )
        except jwt.ExpiredSignatureError:
            raise CredentialsRefused("key-refused", "the token has expired") from None
        except jwt.InvalidTokenError:
            raise CredentialsRefused("key-refused", "the token is not valid for this server") from None
        return _principal(claims), float(claims["exp"]) + LEEWAY_S

    def fetch(self) -> None:
        """Fetch the keys. If that fails, keep the last known ones; log the beginning and the end of a failure."""
        self._fetched_s = time.monotonic()
        try:
            self._keys = self._fetch_keys(), self._fetched_s
        except Exception as error:  # noqa: BLE001 - the issuer's response may be anything
            if not self._failure:
                log.error("the keys of the issuer %s cannot be fetched: %s", self._issuer, type(error).__name__)
            self._failure = type(error).__name__
        else:
            if self._failure:
                log.info("the keys of the issuer %s can be fetched again", self._issuer)
            self._failure = ""

    def _fetch_repeatedly(self) -> None:
        while not self._stopping.is_set():
            self._needs_fetch.wait(SOONEST_S if self._failure else REFRESH_S)
            # Wait for SOONEST_S since the last fetch, however many tokens name unknown keys.
            while not self._stopping.is_set() and (left_s := self._fetched_s + SOONEST_S - time.monotonic()) > 0:
                self._stopping.wait(left_s)
            self._needs_fetch.clear()
            if not self._stopping.is_set():
                self.fetch()

    def _fetch_keys(self) -> dict[str, PyJWK]:
        from jwt import PyJWKSet

        url = self._jwks_url
        if not url:
            configuration = _document(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if configuration["issuer"] != self._issuer:
                raise ValueError("the configuration belongs to another issuer")
            url = configuration["jwks_uri"]
        keys = PyJWKSet.from_dict(_document(url)).keys
        return {key.key_id or "": key for key in keys if key.public_key_use in (None, "sig")}


class _NoRedirects(HTTPRedirectHandler):
    """Refuse redirects: they may lead to another host, or away from https."""

    def redirect_request(self, *_: object) -> None:
        """Return None, which makes a redirect an error."""


def _document(url: str) -> dict[str, Any]:
    """Fetch a JSON object."""
    if not url.startswith(("https://", "http://localhost", "http://127.0.0.1", "http://[::1]")):
        raise ValueError("the URL must begin with https://")
    with build_opener(_NoRedirects).open(url, timeout=FETCH_TIMEOUT_S) as response:
        document: dict[str, Any] = json.loads(response.read(MOST_BYTES))
    return document


def _principal(claims: Mapping[str, Any]) -> Principal:
    """Return the holder, with the scopes of the claim `scope` (RFC 8693, words) or `scp` (words or a list)."""
    claim = claims.get("scope", claims.get("scp", ""))
    words = claim.split() if isinstance(claim, str) else claim
    scopes = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
    subject = "".join(character for character in str(claims["sub"]) if character.isprintable())[:MAX_ID_CHARS]
    return Principal(f"oidc:{subject}", subject, frozenset(scopes))
