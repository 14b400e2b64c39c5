"""Is the process alive, is every model ready: for a platform's probes."""

from __future__ import annotations

import msgspec
from flask import Response, request
from flask_smorest import Blueprint

from app.core.catalogue import Catalogue
from app.core.service import PredictService
from app.settings import Settings
from app.wire import problems

ALIVE = b'{"status":"alive"}'


def blueprint(service: PredictService, catalogue: Catalogue, settings: Settings) -> Blueprint:
    """The health endpoints."""
    blp = Blueprint("health", __name__, description="For the platform's probes.")

    @blp.get("/livez")
    @blp.response(200, {"type": "object"}, description="the process answers")
    def live() -> Response:
        """Is the process alive?"""
        return Response(ALIVE, content_type="application/json")

    @blp.get("/readyz")
    @blp.response(200, {"type": "object"}, description="every model is AVAILABLE")
    @blp.alt_response(503, schema={"type": "object"}, description="some are not, each with its reason")
    def ready() -> Response:
        """Is every model available?"""
        is_ready, document = catalogue.readiness()
        if request.environ.get("retort.draining"):
            is_ready, document = False, {"status": "draining", "reasons": []}
        status, headers = (200, None) if is_ready else (503, problems.RETRY_LATER)
        return Response(msgspec.json.encode(document), status, headers, content_type="application/json")

    return blp
