"""The principal of a request: who calls, and what the caller may do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of an API key or of a token.

    Attributes:
        id: the public part of the key, or the issuer's name for the caller; safe to log.
        name: the name that the operator gave it.
        scopes: what it may do, such as `predict`, `admin` and `metrics`.
        models: the names of the models that it may use; None allows all.
    """

    id: str
    name: str
    scopes: frozenset[str]
    models: frozenset[str] | None = None
