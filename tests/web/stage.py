"""A small Flask app around the pages: a catalogue of made-up models, their OpenAPI document, and /predict.

The models are awkward: a version that failed beside one that serves, 64 inputs, names and values full of quotes and
markup, a model that cannot serve at all.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

from app.errors import ModelUnavailable
from app.web.pages import blueprint, negotiate

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
    """The catalogue of catalogue.json, or a part of it."""

    def __init__(self, *names: str, retired: tuple[str, ...] = ()) -> None:
        self.names = names or tuple(entry["name"] for entry in STORED["models"])
        self.retired = retired

    def models(self) -> dict[str, Any]:
        return {"models": [entry for entry in STORED["models"] if entry["name"] in self.names]}

    def current(self) -> dict[str, dict[str, Any]]:
        return {name: self.model(name) for name in self.names if name not in self.retired}

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        if name in self.retired:
            raise ModelUnavailable(name, None, "its last version was retired")
        described: dict[str, Any] | None = STORED["described"].get(name)
        if described is None:
            return next(silent(entry) for entry in STORED["models"] if entry["name"] == name)
        return described


class EveryKind(StoredCatalogue):
    """The model iris-two with an input of each kind that the committed models do not have."""

    INPUTS = (
        {"name": "member", "kind": "boolean", "nullable": True},
        {"name": "comment", "kind": "text", "nullable": True},
        {"name": "when", "kind": "timestamp", "nullable": True},
        {"name": "table", "kind": "array", "nullable": False, "shape": [2, 2], "dtype": "float64"},
        {"name": "city", "kind": "category", "nullable": False, "categories": ["Bern", "Basel"], "unseen": "accept"},
        {"name": "size", "kind": "category", "nullable": False, "categories": [1, 2, 3], "unseen": "reject"},
        {"name": "month", "kind": "category", "nullable": False, "categories": [*range(1, 13)], "unseen": "reject"},
        {"name": "visits", "kind": "integer", "nullable": True, "minimum": 0, "maximum": 20},
    )
    INSTANCE: ClassVar[dict[str, Any]] = {
        "member": True,
        "comment": "fine",
        "when": "2024-01-31T12:30:00+02:00",
        "table": [[1.5, 2], [3, 4]],
        "city": "Bern",
        "size": 2,
        "month": 11,
        "visits": 3,
    }

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        example = {"instance": self.INSTANCE, "prediction": 0}
        return super().model(name, version) | {"inputs": [*self.INPUTS], "examples": [example]}


class Carded(StoredCatalogue):
    """The model iris-two with its author's card and a training profile."""

    CARD = """# Flowers

| a wide table | of numbers | and words | and more words |
|---|---|---|---|
| 1 | 2 | 3 | a-word-without-a-break-that-is-wider-than-a-phone |

```
flask models add a-file-with-a-long-name.joblib --name iris-two --sample rows.csv
```
"""
    PROFILE: ClassVar[dict[str, Any]] = {
        "rows": 10,
        "inputs": {
            "feature1": {"from": 1.0, "to": 9.0, "counts": [1, 9]},
            "feature2": {"values": [[f"value {number}", 1] for number in range(10)]},
        },
    }

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        return super().model(name, version) | {"card": self.CARD, "profile": self.PROFILE}


class ManyModels(StoredCatalogue):
    """The model iris-two under 200 names."""

    def models(self) -> dict[str, Any]:
        (entry,) = [each for each in STORED["models"] if each["name"] == "iris-two"]
        return {"models": [{**entry, "name": f"flowers-{number:03}"} for number in range(200)]}

    def current(self) -> dict[str, dict[str, Any]]:
        described: dict[str, Any] = STORED["described"]["iris-two"]
        return {entry["name"]: {**described, "name": entry["name"]} for entry in self.models()["models"]}


def silent(entry: dict[str, Any]) -> dict[str, Any]:
    """Describe a model that cannot answer, like GET /models/<name> for a version that cannot be read."""
    newest = max(entry["versions"], key=lambda each: each["version"])
    return {"name": entry["name"], "default": entry["default"], "versions": entry["versions"], **newest}


class EmptyCatalogue:
    """A server with no models."""

    def models(self) -> dict[str, Any]:
        return {"models": []}

    def current(self) -> dict[str, dict[str, Any]]:
        return {}

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        raise AssertionError("there is no model to ask about")


def make_app(catalogue: Any) -> Flask:
    app = Flask("stage")
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.register_blueprint(blueprint(catalogue))
    app.add_url_rule("/openapi.json", "openapi", lambda: Response(OPENAPI, mimetype="application/json"))
    app.add_url_rule("/predict", "predict", lambda: jsonify(ANSWER), methods=["POST"])
    app.add_url_rule("/models", "models.list_models", lambda: jsonify(catalogue.models()))
    app.add_url_rule("/models/<model>", "models.show_model", lambda model: jsonify(catalogue.model(model)))
    app.add_url_rule(
        "/models/<model>/versions/<version>",
        "models.show_version",
        lambda model, version: jsonify(catalogue.model(model, version)),
    )
    app.add_url_rule("/models/<model>/predict", "predict_with", predict, methods=["POST"])
    negotiate(app, catalogue)
    return app


def predict(model: str) -> Response:
    """Answer with the recorded prediction; refuse a body with `refuse` as any value."""
    record = request.get_json()
    wrong = [name for name, value in record.items() if value == "refuse"]
    if wrong:
        errors = [{"pointer": f"#/{name}", "detail": "must be a number"} for name in wrong]
        response = jsonify({"status": 422, "detail": f"{len(wrong)} values are not acceptable", "errors": errors})
        response.status_code = 422
        return response
    (example, *_) = STORED["described"][model]["examples"]
    outputs = {name: [value] for name, value in example.items() if name in ("prediction", "probabilities")}
    return jsonify({**outputs, "classes": STORED["described"][model].get("classes"), "received": [record]})


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """Serve `app` on its own port, and yield the address. At the end no thread or socket remains."""
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
