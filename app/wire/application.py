"""The Flask application, which passes every request to the gateway first, and the gateway's router."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

from flask import request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, Map, MapAdapter, Rule
from werkzeug.routing.matcher import StateMachineMatcher

from app.core.steps.injection import svcs
from app.core.steps.services import Services
from app.gateway.browsers import SAFE
from app.gateway.context import Access, Match, Route, context_in
from app.gateway.gateway import Gateway
from app.gateway.keys import SCOPE_OF_VIEW
from app.server.contract import Environ
from app.storage.keys import ADMIN, PREDICT
from app.wire.body import LIMIT_OF_FLASK
from app.wire.reached import is_ours
from app.wire.registrations import CountedFlask, Registrations, Rules

log = logging.getLogger(__name__)

MAX_CACHED_MATCHES = 2048
"""The most matches that the router caches, by method and path."""
FURTHER_URL = re.compile(r"_\d+$")
"""The ending that flask-smorest adds to the endpoint of a view's second and further URLs."""
ARGUMENT = re.compile(r"<(?:[^<>:]+:)?([^<>:]+)>")
"""An argument in a URL rule, with its converter."""
TEST_CLIENT = "werkzeug.debug.preserve_context"
"""Key of the environ that Flask's test client sets. It keeps the context of the request, so Flask has to make one."""


CachedMatch = tuple[Rule | None, set[str] | None, str, Match]
"""The rule of a path, its methods and endpoint when it was matched, and the match."""


class Application(CountedFlask):
    """Flask with the gateway around every request, under any server and inside any middleware."""

    gateway: Gateway

    def offer(self, services: Services) -> None:
        """Offer the services of steps to views as well, through `svcs.flask.get`."""
        svcs.flask.init_app(self, registry=services.registry)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return self.gateway.around(environ, start_response, super().__call__)

    def wsgi_app(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request, also if a middleware calls this method directly."""
        return self.gateway.around(environ, start_response, super().wsgi_app)

    def dispatch_request(self) -> Any:
        """Call the view that Flask has matched, unless the gateway answers first, for example with a refusal."""
        context, rule = context_in(request.environ), request.url_rule
        request.environ[LIMIT_OF_FLASK] = request.max_content_length
        if context is not None and rule is not None:
            early = self.gateway.dispatching(context, rule.endpoint, request.view_args or {})
            if early is not None:
                return self.response_class(early.body, early.status, early.headers)
        return super().dispatch_request()

    def handle_http_exception(self, e: HTTPException) -> Any:
        """Answer an error of Flask, and break the reference cycle between its traceback and the request."""
        try:
            return super().handle_http_exception(e)
        finally:
            e.__traceback__ = e.__context__ = None


class FlaskRouter(Registrations):
    """The gateway's router. It matches requests as Flask does, and checks whether user code surrounds the views."""

    def __init__(
        self,
        app: Application,
        routes: Mapping[Any, Route],
        blocking: Iterable[str],
        scopes: Mapping[str, str | None],
        unlimited: Iterable[str],
    ) -> None:
        self._routes = routes
        self._needed_scopes = scopes
        self._own = dict(app.view_functions)
        for rule in app.url_map.iter_rules():
            rule.strict_slashes = False  # a trailing slash is answered
        super().__init__(app, [name.rpartition(".")[0] for name, view in self._own.items() if view in routes])
        self._blocking, self._unlimited = frozenset(blocking), frozenset(unlimited)
        self._known: tuple[Rules | None, Map, dict[tuple[str, str], CachedMatch]] = None, app.url_map, {}
        self._logged: set[str] = set()

    def match(self, environ: Environ) -> Match:
        """Return the view for a request."""
        if self._app.url_map is not self._map:
            return Match()
        if self._survey.rules.added != self._map.rules_added:
            self.survey_again()
        rules, url_map, cache = self._known
        if rules is not self._survey.rules:
            rules = self._survey.rules
            url_map, cache = _without_user_code(self._map), {}
            self._known = rules, url_map, cache
        key = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        cached = cache.get(key)
        if cached is None:
            if not all(map(is_ours, (Map.bind, MapAdapter.match, StateMachineMatcher.match))):
                return Match()  # user code, which runs in Flask
            cached = self._find(url_map, *key)
            if len(cache) >= MAX_CACHED_MATCHES:
                cache.clear()
            if cached[-1].route is None or cached[-1].is_direct:  # a patch may be gone before the next survey
                cache[key] = cached
        rule, methods, endpoint, match = cached
        if match.route is None or rule is None:
            return match
        if rule.methods != methods or rule.endpoint != endpoint:  # a user has changed it in place
            self.survey_again()
            return self.match(environ)
        is_replaced = self._app.view_functions.get(endpoint) is not self._own[endpoint]
        if is_replaced:
            self._log_once(f"the view {endpoint} was replaced or decorated")
        is_plain = self._survey.is_plain or self.is_direct()  # user code around the views may be gone
        if is_replaced or TEST_CLIENT in environ or not is_plain or self._may_have_session(environ):
            return replace(match, is_direct=False)
        limit_bytes = self._app.config.get("MAX_CONTENT_LENGTH")
        if limit_bytes is not None:
            environ[LIMIT_OF_FLASK] = limit_bytes
        return match

    def _may_have_session(self, environ: Environ) -> bool:
        """Return whether Flask may load a session and renew its cookie, which it does only with a secret key."""
        if "HTTP_COOKIE" not in environ or not self._app.config.get("SECRET_KEY"):
            return False
        self._log_once("SECRET_KEY is set and they have a cookie")
        return True

    def _log_once(self, reason: str) -> None:
        if reason not in self._logged:
            self._logged.add(reason)
            log.info("predictions go through Flask because %s", reason)

    def _find(self, url_map: Map, method: str, path: str) -> CachedMatch:
        adapter = url_map.bind("localhost")
        try:
            decoded = path.encode("latin-1").decode("utf-8", "replace")
            rule, arguments = adapter.match(decoded, method, return_rule=True)
        except HTTPException:
            return None, None, "", Match()
        endpoint: str = rule.endpoint
        name, view = FURTHER_URL.sub("", endpoint), self._own.get(endpoint)
        route = self._routes.get(view) if method in (rule.methods or ()) and method not in ("OPTIONS", "HEAD") else None
        original: Rule = rule.original  # type: ignore[attr-defined]
        converters = [type(converter).to_python for converter in original._converters.values()]
        match = Match(
            route,
            arguments,
            is_direct=original.redirect_to is None and all(map(is_ours, converters)),
            may_change_models=view is not None and view not in self._routes,
            may_block=name in self._blocking,
            is_limited=name not in self._unlimited,
            pattern=ARGUMENT.sub(r"{\1}", rule.rule),
            access=self.access(endpoint, method, arguments),
        )
        return original, rule.methods, endpoint, match

    def access(self, endpoint: str, method: str, arguments: Mapping[str, Any]) -> Access:
        """Return the scope and the model that a view requires: for a user's view, `predict` unless it is decorated."""
        view = self._own.get(endpoint)
        if view is None:
            return Access(getattr(self._app.view_functions.get(endpoint), SCOPE_OF_VIEW, PREDICT))
        name, model = FURTHER_URL.sub("", endpoint), arguments.get("model")
        if view in self._routes and name not in self._needed_scopes:
            return Access(PREDICT, model or "")
        usual = PREDICT if method in SAFE else ADMIN
        return Access(self._needed_scopes.get(name, usual), model)


def _without_user_code(url_map: Map) -> Map:
    """Return a copy of a URL map that matches the same paths and calls no user code.

    Its rules have no user converters and no `redirect_to`, but they redirect to canonical URLs (`defaults`, `alias`).
    Each has the copied rule as `original`.
    """
    converters = {name: _without_conversion(converter) for name, converter in url_map.converters.items()}
    options = (url_map.default_subdomain, url_map.strict_slashes, url_map.merge_slashes, url_map.redirect_defaults)
    copied = Map(None, *options, converters)
    for rule in url_map.iter_rules():
        rule_copy: Any = Rule(rule.rule, **Rule.get_empty_kwargs(rule))
        rule_copy.original = rule
        rule_copy.websocket, rule_copy.merge_slashes = rule.websocket, rule.merge_slashes
        rule_copy.methods = copy(rule.methods)  # as they are: a user may have changed them in place
        rule_copy.redirect_to = None
        copied.add(rule_copy)
    copied.update()
    return copied


def _without_conversion(converter: type[BaseConverter]) -> type[BaseConverter]:
    """Return the converter if it is ours, else one that matches the same paths and returns their text."""
    if is_ours(converter.to_python) and is_ours(converter.to_url):
        return converter
    return type("Inert", (converter,), {"to_python": _to_text, "to_url": _to_text})


def _to_text(converter: BaseConverter, value: Any) -> str:
    return str(value)
