"""Interceptor for API keys: it refuses requests without a valid key, or with a key that lacks the necessary rights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from app.errors import ModelNotPermitted
from app.gateway.browsers import SAFE, SameOrigin
from app.gateway.context import RequestContext
from app.gateway.credentials import CredentialsRefused
from app.gateway.errors import RETRY_LATER, RequestRefused
from app.gateway.interceptors import Interceptor
from app.gateway.key_table import KeysUnavailable, KeyTable
from app.runtime.registry import Registry
from app.server.contract import Environ

ViewT = TypeVar("ViewT", bound=Callable[..., object])

REALM = 'realm="retort"'
UNAVAILABLE = "the API keys cannot be checked now"
SCOPE_OF_VIEW = "retort_scope"
"""The attribute of a view function that holds its scope."""


def needs_scope(scope: str | None) -> Callable[[ViewT], ViewT]:
    """Decorate a view function with the scope that a key needs for it; `None` opens the view to everybody.

    Views without this decorator need `predict`. It may stand above or below the decorator of the route.
    """

    def mark(view: ViewT) -> ViewT:
        setattr(view, SCOPE_OF_VIEW, scope)
        return view

    return mark


class ApiKeys(Interceptor):
    """Interceptor that lets a request pass if its key has the scope of the view and may use the model.

    Args:
        table: the keys of this process. While it requires none, every request passes.
        same_origin: refuses changes from pages of other origins, where the browser itself has added the key.
        models: the registry, which has the default model for requests that name no model.
    """

    may_block = False
    looks_at_view = True
    refuses_by_head = True

    def __init__(self, table: KeyTable, same_origin: SameOrigin, models: Registry) -> None:
        self._table = table
        self._same_origin = same_origin
        self._models = models

    def before(self, context: RequestContext) -> None:
        """Refuse a request without a valid key, or with a key that lacks the scope or the model."""
        table = self._table
        if not table.required or (scope := context.needed_scope) is None:
            return
        try:
            principal, by_browser = table.find(context.environ)
        except CredentialsRefused as error:
            raise _refusal(error, context.environ) from None
        except KeysUnavailable:
            raise RequestRefused(503, "keys-unavailable", UNAVAILABLE, RETRY_LATER) from None
        context.principal, context.client = principal, principal.id
        if scope not in principal.scopes and not (scope == "metrics" and "admin" in principal.scopes):
            challenge = f'Bearer {REALM}, error="insufficient_scope", scope="{scope}"'
            detail = f"this needs a key with the scope {scope}; yours has: {', '.join(sorted(principal.scopes))}"
            raise RequestRefused(403, "scope-missing", detail, {"WWW-Authenticate": challenge})
        if by_browser and context.environ["REQUEST_METHOD"] not in SAFE:
            self._same_origin.check(context.environ)
        if principal.models is not None:
            self._check_model(context, principal.models)

    def _check_model(self, context: RequestContext, models: frozenset[str]) -> None:
        """Refuse a request for another model. If the view belongs to no model, pass it the models of the key."""
        if context.asked_model is None:
            context.permitted_models = models
            return
        name = context.asked_model or self._default_model()
        if name not in models:
            raise ModelNotPermitted(name, models)

    def _default_model(self) -> str | None:
        lease = self._models.current(None)  # does not wait; None while models are loading
        return self._models.default() if lease is None else lease.manifest.model


def _refusal(error: CredentialsRefused, environ: Environ) -> RequestRefused:
    """Return the refusal of a request. Its challenge makes a browser that opens a page ask for the key."""
    challenge = f"Bearer {REALM}"
    if error.name != "key-required":
        challenge += ', error="invalid_token"'
    if "text/html" in environ.get("HTTP_ACCEPT", ""):
        challenge = f'Basic {REALM}, charset="UTF-8"'
    return RequestRefused(401, error.name, error.detail, {"WWW-Authenticate": challenge})
