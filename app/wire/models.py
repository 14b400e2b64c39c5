"""What there is to serve: `GET /models` and its longer forms."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from app.wire.backend import Backend, json_response


def blueprint(backend: Backend) -> Blueprint:
    """Return the endpoints that describe models."""
    catalogue = backend.catalogue
    blp = Blueprint("models", __name__, description="The models, their versions and their signatures.")

    @blp.get("/models")
    @blp.response(200, {"type": "object"}, description="every model, its versions and their states")
    def list_models() -> Response:
        """List the models"""
        return json_response(catalogue.models())

    @blp.get("/models/<string:model>")
    @blp.response(200, {"type": "object"}, description="signature, outputs, examples, environment, hashes")
    @blp.alt_response(404, description="there is no such model or version")
    def show_model(model: str) -> Response:
        """Describe the current version of a model"""
        return json_response(catalogue.model(model))

    @blp.get("/models/<string:model>/versions/<string:version>")
    @blp.response(200, {"type": "object"}, description="signature, outputs, examples, environment, hashes")
    @blp.alt_response(404, description="there is no such model or version")
    def show_version(model: str, version: str) -> Response:
        """Describe one version of a model, by its number or an alias"""
        return json_response(catalogue.model(model, version))

    return blp
