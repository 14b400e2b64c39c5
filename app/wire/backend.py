"""What the views of a protocol may use, and how a protocol registers its prediction URLs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from flask import Response, current_app, request
from flask_smorest import Blueprint
from werkzeug.routing import BaseConverter

from app.core.catalogue import Catalogue
from app.core.service import PredictService
from app.gateway.context import HttpAdapter, RequestContext, Route, context_in
from app.gateway.endpoint import PredictEndpoint, Streaming
from app.gateway.errors import ErrorRenderer
from app.runtime.registry import Registry
from app.settings import Settings
from app.telemetry.metrics import SharedMetrics

JSON_TYPE = "application/json"
OBJECT: Mapping[str, Any] = {"type": "object"}
ERRORS_OF_PREDICTIONS: Mapping[int, str] = {
    404: "there is no such model or version",
    413: "the body is too long or has too many instances",
    429: "the server is busy, and more requests of this client wait than of others",
    503: "the model is not available, or the server is busy",
    504: "the request's time ran out",
}
"""What every protocol documents of its prediction URLs."""


class Segment(BaseConverter):
    """A segment of a path, or its part before a colon."""

    regex = "[^/:]+"


@dataclass(frozen=True, slots=True)
class Backend:
    """The service behind all protocols. Lives as long as the process; safe to call from many threads."""

    service: PredictService
    registry: Registry
    catalogue: Catalogue
    settings: Settings
    errors: ErrorRenderer
    metrics: SharedMetrics
    routes: dict[Any, Route] = field(default_factory=dict)
    """The views that can be answered without Flask, each with what answers them."""

    def endpoint(
        self,
        adapter: Callable[[RequestContext], HttpAdapter],
        streaming: Streaming | None = None,
        count: Callable[[RequestContext], None] | None = None,
    ) -> PredictEndpoint:
        """Return the prediction endpoint of a protocol."""
        return PredictEndpoint(self.service, self.registry, self.errors, adapter, streaming, count)

    def add_predictions(
        self,
        blp: Blueprint,
        endpoint: PredictEndpoint,
        name: str,
        rules: Sequence[str],
        summary: str,
        *,
        schema: Any = OBJECT,
        says: str = "a prediction for each instance",
        errors: Mapping[int, str],
        body: Mapping[str, Any] | None = None,
    ) -> None:
        """Register a view that answers at these URLs, and document it.

        The gateway answers the same requests with the same endpoint where nothing is registered around the view.
        """

        def view(**arguments: str) -> Response:
            context = context_of(request.environ)
            if context.route is not endpoint or context.arguments != arguments:
                context.route, context.arguments = endpoint, arguments
                endpoint.plan(context)
            response = endpoint.answer(context)
            return current_app.make_response((response.body, response.status, response.headers))

        view.__name__, view.__doc__ = name, summary
        described = blp.response(200, schema, description=says)(view)
        for status, when in sorted({**ERRORS_OF_PREDICTIONS, **errors}.items()):
            described = blp.alt_response(status, description=when)(described)
        if body is not None:
            described = blp.doc(requestBody=body)(described)
        # The view returns a response: it takes the description, and not the calls around it.
        view._apidoc = described._apidoc  # type: ignore[attr-defined]
        self.routes[view] = endpoint
        for rule in rules:
            blp.post(rule)(view)


def context_of(environ: dict[str, Any]) -> RequestContext:
    """Return the context that the gateway made for the request of a view."""
    context = context_in(environ)
    if context is None:
        raise AssertionError("a view was called without the gateway")
    return context


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a document as JSON."""
    return Response(msgspec.json.encode(document), status, headers, content_type=JSON_TYPE)
