"""A small Flask app around the pages: a catalogue of made-up models, their OpenAPI document, and /predict.

The models are chosen to be awkward: a version that failed beside one that serves, 64 inputs, names and values full of
quotes and markup, a model that cannot serve at all.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify
from werkzeug.serving import make_server

from app.errors import ModelUnavailable
from app.web import blueprint

FOLDER = Path(__file__).parent
STORED: dict[str, Any] = json.loads((FOLDER / "catalogue.json").read_text("utf-8"))
OPENAPI = (FOLDER / "openapi.json").read_text("utf-8")
ANSWER = {
    "prediction": ["Adelie"],
    "probabilities": [[0.9976470588235294, 0.0, 0.0023529411764705885]],
    "classes": ["Adelie", "Chinstrap", "Gentoo"],
    "model": "penguins",
    "version": 3,
}


class StoredCatalogue:
    """The catalogue of catalogue.json, or a part of it. It records which models are described."""

    def __init__(self, *names: str, retired: tuple[str, ...] = ()) -> None:
        self.names = names or tuple(entry["name"] for entry in STORED["models"])
        self.retired = retired
        self.asked: list[str] = []

    def models(self) -> dict[str, Any]:
        return {"models": [entry for entry in STORED["models"] if entry["name"] in self.names]}

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        self.asked.append(name)
        if name in self.retired:
            raise ModelUnavailable(name, None, "its last version was retired")
        described: dict[str, Any] = STORED["described"][name]
        return described


class EmptyCatalogue:
    """A server with no models."""

    def models(self) -> dict[str, Any]:
        return {"models": []}

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        raise AssertionError("there is no model to ask about")


def make_app(catalogue: Any) -> Flask:
    app = Flask("stage")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(blueprint(catalogue))
    app.add_url_rule("/openapi.json", "openapi", lambda: Response(OPENAPI, mimetype="application/json"))
    app.add_url_rule("/predict", "predict", lambda: jsonify(ANSWER), methods=["POST"])
    return app


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The address of `app` on a port of its own. At the end no thread or socket remains."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = False  # type: ignore[attr-defined]  # so that closing waits for the answers under way
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
