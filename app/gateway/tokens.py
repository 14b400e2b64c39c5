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
"""All are asymmetric: a public key can never serve as the secret of a signature."""
REQUIRED = ["exp", "iss", "aud", "sub"]
LEEWAY_S = 10
REFRESH_S = 300.0
SOONEST_S = 10.0
"""A token with an unknown key makes us fetch the keys before `REFRESH_S`, but no more often than this."""
MAX_AGE_S = 3600.0
"""Time for which the keys hold while the issuer does not answer."""
FETCH_TIMEOUT_S = 5.0
MOST_BYTES = 2**20
MAX_ID_CHARS = 128


class IssuerTokens:
    """Checks the tokens of one issuer. A thread fetches the issuer's keys. Safe to call from many threads.

    Args:
        issuer: the issuer's URL, exactly as the claim `iss` has it.
        audience: the claim `aud` must be this or contain it.
        jwks_url: where the keys are; empty: where the issuer's configuration says.
    """

    def __init__(self, issuer: str, audience: str, jwks_url: str = "") -> None:
        self._issuer = issuer
        self._audience = audience
        self._jwks_url = jwks_url
        self._found: tuple[Mapping[str, PyJWK], float] = {}, float("-inf")
        """The issuer's keys by their id, and when they were read (monotonic)."""
        self._fetched_s = float("-inf")
        self._failure = ""
        self._wanted, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Fetch the keys, and go on fetching them in a thread. Called after the fork."""
        self.fetch()
        self._thread = threading.Thread(target=self._go_on, name="retort-tokens", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def principal(self, token: str) -> tuple[Principal, float]:
        """Return the holder of a token and the time when it expires.

        Raises:
            CredentialsRefused: the signature, the issuer, the audience or the time is not right.
            KeysUnavailable: the issuer's keys are not known, or too old.
        """
        import jwt

        if self._thread is None:  # under another server than Retort's
            self.begin()
        keys, read_s = self._found
        if time.monotonic() > read_s + MAX_AGE_S:
            self._wanted.set()
            raise KeysUnavailable
        try:
            header = jwt.get_unverified_header(token)
            key = keys.get(str(header.get("kid", "")))
            if key is None:
                self._wanted.set()
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
        """Fetch the keys. If that fails, keep those that are known; log the beginning and the end of a failure."""
        self._fetched_s = time.monotonic()
        try:
            self._found = self._keys(), self._fetched_s
        except Exception as error:  # noqa: BLE001 - another server answered, with anything
            if not self._failure:
                log.error("the keys of the issuer %s cannot be fetched: %s", self._issuer, type(error).__name__)
            self._failure = type(error).__name__
        else:
            if self._failure:
                log.info("the keys of the issuer %s can be fetched again", self._issuer)
            self._failure = ""

    def _go_on(self) -> None:
        while not self._stopping.is_set():
            self._wanted.wait(SOONEST_S if self._failure else REFRESH_S)
            # However many unknown keys tokens name, the issuer is asked no more often than this.
            while not self._stopping.is_set() and (left_s := self._fetched_s + SOONEST_S - time.monotonic()) > 0:
                self._stopping.wait(left_s)
            self._wanted.clear()
            if not self._stopping.is_set():
                self.fetch()

    def _keys(self) -> dict[str, PyJWK]:
        from jwt import PyJWKSet

        url = self._jwks_url
        if not url:
            configuration = _document(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
            if configuration["issuer"] != self._issuer:
                raise ValueError("the configuration is that of another issuer")
            url = configuration["jwks_uri"]
        found = PyJWKSet.from_dict(_document(url)).keys
        return {each.key_id or "": each for each in found if each.public_key_use in (None, "sig")}


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: it may lead to another host, or away from https."""

    def redirect_request(self, *_: object) -> None:
        """Return None, which makes a redirect an error."""


def _document(url: str) -> dict[str, Any]:
    """Fetch a JSON object."""
    if not url.startswith(("https://", "http://localhost", "http://127.0.0.1", "http://[::1]")):
        raise ValueError("only https is fetched")
    with build_opener(_NoRedirects).open(url, timeout=FETCH_TIMEOUT_S) as answer:
        document: dict[str, Any] = json.loads(answer.read(MOST_BYTES))
    return document


def _principal(claims: Mapping[str, Any]) -> Principal:
    """Return the holder: the scopes are those in `scope` (RFC 8693, words) or `scp` (words or a list)."""
    told = claims.get("scope", claims.get("scp", ""))
    words = told.split() if isinstance(told, str) else told
    scopes = [each for each in words if isinstance(each, str)] if isinstance(words, list) else []
    subject = "".join(each for each in str(claims["sub"]) if each.isprintable())[:MAX_ID_CHARS]
    return Principal(f"oidc:{subject}", subject, frozenset(scopes))
