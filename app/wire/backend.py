"""The services that views and adapters of a protocol use, and the documentation of views."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from flask import Response, current_app, request
from flask_smorest import Blueprint
from werkzeug.routing import BaseConverter

from app.core.catalogue import Catalogue
from app.core.service import PredictService
from app.errors import InvalidInstances
from app.gateway.context import HttpAdapter, RequestContext, Route, context_in
from app.gateway.endpoint import PredictEndpoint, Streaming
from app.gateway.errors import NOT_READY, RETRY_LATER, ErrorRenderer
from app.runtime.registry import Registry
from app.server.contract import Environ, Headers
from app.settings import Settings
from app.telemetry.metrics import SharedMetrics
from app.wire.body import MIN_COMPRESSED_BYTES, compress
from app.wire.codecs import JSON_TYPE, BodyLimits

View = TypeVar("View", bound=Callable[..., Any])

OBJECT: Mapping[str, Any] = {"type": "object"}
UNKNOWN_MODEL: Mapping[int, str] = {404: "there is no such model or version"}
UNREADY: Mapping[int, str] = {503: "some are not, or the server is about to stop"}
ERRORS_OF_PREDICTIONS: Mapping[int, str] = {
    **UNKNOWN_MODEL,
    413: "the body is too long or has too many instances",
    429: "the client has used up a limit, or the server is busy and more requests of this client wait than of others",
    503: "the model is not available, or the server is busy",
    504: "the request's time ran out",
}


class Segment(BaseConverter):
    """A segment of a path, or its part before a colon."""

    regex = "[^/:]+"


class Adapter:
    """The base of protocol adapters, which parse one request and encode its response with `parse` and `encode`."""

    media_type = JSON_TYPE
    _coded: Sequence[tuple[str, str]] = ()
    _place: Callable[[InvalidInstances], InvalidInstances] | None = None

    def __init__(self, environ: Environ, limits: BodyLimits) -> None:
        self._environ = environ
        self._limits = limits

    def headers(self) -> Headers:
        """Return the header fields of the response."""
        return [("Content-Type", self.media_type), *self._coded]

    def located(self, error: InvalidInstances) -> InvalidInstances:
        """Return the error with pointers into the request's body. An adapter may set `_place` to move the pointers."""
        return error if self._place is None else self._place(error)

    def _compressed(self, content: bytes) -> bytes:
        """Compress a response if the client accepts a coding and the response is long enough."""
        accept_encoding = self._environ.get("HTTP_ACCEPT_ENCODING")
        if accept_encoding is not None and (len(content) >= MIN_COMPRESSED_BYTES or "q=0" in accept_encoding):
            content, self._coded = compress(content, accept_encoding)
        return content


@dataclass(frozen=True, slots=True)
class Backend:
    """The services behind all protocols. One lives as long as the process and may be called from many threads."""

    service: PredictService
    registry: Registry
    catalogue: Catalogue
    settings: Settings
    errors: ErrorRenderer
    metrics: SharedMetrics
    routes: dict[Any, Route] = field(default_factory=dict)
    """The views that can be answered without Flask, each with its route."""

    @property
    def limits(self) -> BodyLimits:
        """The limits of the body of a request."""
        settings = self.settings
        return BodyLimits(settings.body_limit_bytes, settings.max_instances, settings.max_values)

    def add_predictions(
        self,
        blp: Blueprint,
        name: str,
        rules: Sequence[str],
        summary: str,
        adapter: Callable[[RequestContext], HttpAdapter],
        *,
        streaming: Streaming | None = None,
        count: Callable[[RequestContext], None] | None = None,
        schema: Any = OBJECT,
        description: str = "a prediction for each instance",
        errors: Mapping[int, str],
        body: Mapping[str, Any] | None = None,
    ) -> None:
        """Register a view for these URL rules, and document it.

        `adapter` makes the adapter of a request. While no user code surrounds the view, the gateway answers directly,
        with the same endpoint.
        """
        endpoint = PredictEndpoint(self.service, self.registry, self.errors, adapter, streaming, count)

        def view(**arguments: str) -> Response:
            context = context_of(request.environ)
            if context.route is not endpoint or context.arguments != arguments:
                context.route, context.arguments = endpoint, arguments
                endpoint.plan(context)
            response = endpoint.answer(context)
            return current_app.response_class(response.body, response.status, response.headers)

        view.__name__, view.__doc__ = name, summary
        answers(blp, description, {**ERRORS_OF_PREDICTIONS, **errors}, schema=schema, body=body)(view)
        self.routes[view] = endpoint
        for rule in rules:
            blp.post(rule)(view)


def answers(
    blp: Blueprint,
    description: str,
    errors: Mapping[int, str] | None = None,
    *,
    status: int = 200,
    schema: Any = OBJECT,
    body: Mapping[str, Any] | None = None,
    **options: Any,
) -> Callable[[View], View]:
    """Document a view that returns a `Response`: its success, the cause of each error status, its request body.

    `options` go to flask-smorest's `Blueprint.response`.
    """

    def document(view: View) -> View:
        documented = blp.response(status, schema, description=description, **options)(view)
        for error_status, cause in (errors or {}).items():
            documented = blp.alt_response(error_status, description=cause)(documented)
        if body is not None:
            documented = blp.doc(requestBody=body)(documented)
        # Keep only the documentation: the wrapped views would serialize the response.
        view._apidoc = documented._apidoc  # type: ignore[attr-defined]
        return view

    return document


def context_of(environ: dict[str, Any]) -> RequestContext:
    """Return the request context that the gateway made."""
    context = context_in(environ)
    if context is None:
        raise AssertionError("a view was called without the gateway")
    return context


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a document as JSON."""
    return Response(msgspec.json.encode(document), status, headers, content_type=JSON_TYPE)


def not_ready(content: bytes, media_type: str = JSON_TYPE) -> Response:
    """Return the response of a failed readiness probe. The log and the metrics name its outcome `unready`."""
    context_of(request.environ).outcome = NOT_READY.name
    return Response(content, 503, RETRY_LATER, content_type=media_type)
