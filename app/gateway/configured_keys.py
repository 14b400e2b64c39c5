"""The table of API keys as the settings describe it. Nothing is opened or fetched."""

from __future__ import annotations

from importlib.util import find_spec

from app.errors import InvalidSettings
from app.gateway.key_table import KeyTable, TokenVerifier
from app.settings import Settings
from app.storage.key_source import KeySource
from app.storage.keys import read_entries


def key_table(settings: Settings) -> KeyTable:
    """Return the table.

    Raises:
        InvalidSettings: an entry of `RETORT_API_KEYS` cannot be read, or tokens need a library that is not installed.
    """
    try:
        given = read_entries(settings.api_keys)
    except ValueError as error:
        raise InvalidSettings([f"RETORT_API_KEYS: {error}"]) from None
    source = KeySource(given, settings.database_url, settings.instance_dir)
    return KeyTable(source, settings.key_secret, settings.keys_grace_s, _tokens(settings))


def _tokens(settings: Settings) -> TokenVerifier | None:
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
