"""Liveness and readiness probes."""

from __future__ import annotations

import msgspec
from flask import Response
from flask_smorest import Blueprint

from app.gateway.endpoint import FixedRoute
from app.wire.backend import OBJECT, Backend, answers, json_response, not_ready
from app.wire.codecs import JSON_TYPE

ALIVE = b'{"status":"alive"}'


def blueprint(backend: Backend) -> Blueprint:
    """Return the health endpoints."""
    blp = Blueprint("health", __name__, description="For the platform's probes.")

    @blp.get("/livez")
    @answers(blp, "the process answers")
    def live() -> Response:
        """Check whether the process is alive"""
        return Response(ALIVE, content_type=JSON_TYPE)

    backend.routes[live] = FixedRoute(ALIVE)

    @blp.get("/readyz")
    @answers(blp, "every model is AVAILABLE")
    @blp.alt_response(503, schema=OBJECT, description="the unavailable models, each with its reason")
    def ready() -> Response:
        """Check whether every model is available"""
        is_ready, document = backend.catalogue.readiness()
        return json_response(document) if is_ready else not_ready(msgspec.json.encode(document))

    return blp
