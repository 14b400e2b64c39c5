"""What there is to serve: `GET /models` and its longer forms."""

from __future__ import annotations

import msgspec
from flask import Response
from flask_smorest import Blueprint

from app.core.catalogue import Catalogue
from app.core.service import PredictService
from app.settings import Settings


def blueprint(service: PredictService, catalogue: Catalogue, settings: Settings) -> Blueprint:
    """The endpoints that describe models."""
    blp = Blueprint("models", __name__, description="The models, their versions and their signatures.")

    @blp.get("/models")
    @blp.response(200, {"type": "object"}, description="every model, its versions and their states")
    def list_models() -> Response:
        """List the models"""
        return _json(catalogue.models())

    @blp.get("/models/<string:model>")
    @blp.response(200, {"type": "object"}, description="signature, outputs, examples, environment, hashes")
    @blp.alt_response(404, description="there is no such model or version")
    def show_model(model: str) -> Response:
        """Describe the current version of a model"""
        return _json(catalogue.model(model))

    @blp.get("/models/<string:model>/versions/<string:version>")
    @blp.response(200, {"type": "object"}, description="signature, outputs, examples, environment, hashes")
    @blp.alt_response(404, description="there is no such model or version")
    def show_version(model: str, version: str) -> Response:
        """Describe one version of a model, by its number or an alias"""
        return _json(catalogue.model(model, version))

    return blp


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), content_type="application/json")
