"""The key or token that a request sends, and its holder.

A request sends it as `Authorization: Bearer KEY`, as `X-API-Key: KEY`, or as the password of HTTP Basic.

A browser that gets a challenge with the scheme Basic asks its user for a password, and sends it with each request of
the page. So people can open the pages with a key as the password. The user name is ignored.
"""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass

MISSING = "this server needs an API key: send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`"
TWO_KEYS = "Authorization and X-API-Key are both there and differ: send one of them"
OTHER_SCHEME = "Authorization must be `Bearer KEY`"


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of an API key or of a token.

    Attributes:
        id: the public part of the key, or the issuer's name for the caller; safe to log.
        name: the name that the operator gave the key.
        scopes: the rights of the holder, such as `predict`, `admin` and `metrics`.
        models: the names of the models that the holder may use; None allows all.
    """

    id: str
    name: str
    scopes: frozenset[str]
    models: frozenset[str] | None = None


def credentials_of(authorization: str | None, api_key: str | None) -> tuple[str, bool]:
    """Return the key or token in the two header fields, and whether a browser may have added it by itself.

    Raises:
        CredentialsRefused: both fields are missing, they differ, or the scheme is neither Bearer nor Basic.
    """
    if authorization is None:
        if api_key is None:
            raise CredentialsRefused("key-required", MISSING)
        return api_key.strip(), False
    scheme, _, value = authorization.strip().partition(" ")
    is_basic = scheme.lower() == "basic"
    if not is_basic and scheme.lower() != "bearer":
        raise CredentialsRefused("key-refused", OTHER_SCHEME)
    key = _password(value) if is_basic else value.strip()
    if api_key is not None and api_key.strip() != key:
        raise CredentialsRefused("key-refused", TWO_KEYS)
    return key, is_basic


class CredentialsRefused(Exception):
    """The credentials are missing or not valid. `name` is the name of the problem, `detail` one sentence."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name
        self.detail = detail


def _password(value: str) -> str:
    """Return the password in the value of HTTP Basic; empty if the value is not valid."""
    with contextlib.suppress(ValueError):
        return base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")[2]
    return ""
