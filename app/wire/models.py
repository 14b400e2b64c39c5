"""`GET /models` and the URLs below it: descriptions of the served models."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint

from app.wire.backend import UNKNOWN_MODEL, Backend, answers, json_response


def blueprint(backend: Backend) -> Blueprint:
    """Return the endpoints that describe models."""
    catalogue = backend.catalogue
    blp = Blueprint("models", __name__, description="The models, their versions and their signatures.")

    @blp.get("/models")
    @answers(blp, "every model, its versions and their states")
    def list_models() -> Response:
        """List the models"""
        return json_response(catalogue.models())

    @blp.get("/models/<string:model>")
    @answers(blp, "signature, outputs, examples, environment, hashes", UNKNOWN_MODEL)
    def show_model(model: str) -> Response:
        """Describe the current version of a model"""
        return json_response(catalogue.model(model))

    @blp.get("/models/<string:model>/versions/<string:version>")
    @answers(blp, "signature, outputs, examples, environment, hashes", UNKNOWN_MODEL)
    def show_version(model: str, version: str) -> Response:
        """Describe one version of a model, by its number or an alias"""
        return json_response(catalogue.model(model, version))

    return blp
