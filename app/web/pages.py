"""The pages for people: home, the models, Swagger UI, ReDoc, the types of errors, and their assets."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, Final
from urllib.parse import quote

from flask import Blueprint, Flask, Response, current_app, jsonify, make_response, redirect, request
from werkzeug.exceptions import NotFound
from werkzeug.http import HTTP_STATUS_CODES

from app.core.catalogue import Catalogue
from app.gateway.forwarded import root_of
from app.gateway.problem_types import PROBLEMS, ProblemType
from app.web.cards import AVAILABLE, card_of
from app.web.model_page import model_page
from app.web.playground import answered, playground
from app.web.rendering import ASSETS, REDOC, SWAGGER_UI, asset, render

DAY_S: Final = 24 * 3600
# ReDoc runs its search in a worker made from a blob. It inserts two style elements, and the hashes admit only these: an
# empty one, to which it adds rules through the object model, and one for its scroll bars.
_REDOC_POLICY: Final = {
    "style-src": "'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
    "worker-src": "blob:",
}
_STATUSES = {phrase.lower().replace(" ", "-"): status for status, phrase in HTTP_STATUS_CODES.items() if status >= 400}
OPEN: Final = ("queued", "running")
"""States of jobs that have not ended."""
LOOKS: Final[Mapping[str, str]] = {"done": "ok", "failed": "bad", "cancelled": "bad"}
UNKNOWN: Final = "-"


def blueprint(catalogue: Catalogue) -> Blueprint:
    """Return the pages. They call `catalogue` from several threads."""
    pages = Blueprint("web", __name__, template_folder="templates")

    @pages.get("/")
    def home() -> Response:
        return _negotiated(lambda: _home(catalogue), _liveness)

    @pages.route("/models/<string:model>/try", methods=["GET", "POST"])
    @pages.route("/models/<string:model>/versions/<string:version>/try", methods=["GET", "POST"])
    def try_model(model: str, version: str | None = None) -> Response:
        """Answer the form of a playground in a browser without JavaScript."""
        if request.method == "GET":
            path = f"models/{quote(model, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")
            return make_response(redirect(f"{root_of(request.environ)}/{path}"))
        described = catalogue.model(model, version)
        if described["state"] != AVAILABLE:
            return _model(catalogue, model, version)
        values = answered(described, version, request.url_root)
        response = _page("model.html", page=model_page(described, version), playground=values)
        response.status_code = values["status"]
        return response

    @pages.get("/problems")
    def problems() -> Response:
        types = PROBLEMS.values()
        return _negotiated(
            lambda: _page("problems.html", problems=types),
            lambda: jsonify({"problems": [each.document() for each in types]}),
        )

    @pages.get("/problems/<name>")
    def problem(name: str) -> Response:
        known_type = problem_type(name)
        if known_type is None:
            raise NotFound
        return _negotiated(lambda: _page("problem.html", problem=known_type), lambda: jsonify(known_type.document()))

    @pages.get("/docs")
    def docs() -> Response:
        return _page("docs.html", edition=SWAGGER_UI)

    @pages.get("/redoc")
    def redoc() -> Response:
        return _page("redoc.html", _REDOC_POLICY, edition=REDOC)

    @pages.get("/favicon.ico")
    def favicon() -> Response:
        # For clients that load no page: pages link to the icon's cacheable URL.
        response = asset("site", "", "retort.svg")
        response.headers["Cache-Control"] = f"public, max-age={DAY_S}"
        return response

    pages.add_url_rule(f"{ASSETS}/<library>/<edition>/<path:filename>", "asset", asset)
    return pages


def problem_type(name: str) -> ProblemType | None:
    """Return the problem type of this name, also for an HTTP status that only a user's view returns."""
    if name in PROBLEMS:
        return PROBLEMS[name]
    status = _STATUSES.get(name)
    return None if status is None else ProblemType(name, status, f"The answer has the HTTP status {status}.")


def negotiate(app: Flask, catalogue: Catalogue) -> None:
    """Make the URLs of models and jobs return pages to browsers. Programs still get JSON."""
    pages: dict[str, Callable[..., Response]] = {
        "models.list_models": lambda document: _page("models.html", cards=_cards(catalogue)),
        "models.show_model": lambda document, model: _model(catalogue, model, None),
        "models.show_version": lambda document, model, version: _model(catalogue, model, version),
        "jobs.list_jobs": lambda document: _jobs(catalogue, document().get_json()),
        "jobs.show_job": lambda document, job: _page("job.html", job=job_view(document().get_json())),
    }
    for endpoint in pages.keys() & app.view_functions.keys():
        app.view_functions[endpoint] = _with_page(pages[endpoint], app.view_functions[endpoint])


def _with_page(page: Callable[..., Response], view: Callable[..., Any]) -> Callable[..., Response]:
    """Return a view that sends browsers a page. `page` takes a function that returns the JSON, and the arguments."""

    @wraps(view)
    def negotiated(**arguments: str) -> Response:
        document = partial(view, **arguments)
        return _negotiated(lambda: page(document, **arguments), document)

    return negotiated


def _jobs(catalogue: Catalogue, document: dict[str, Any]) -> Response:
    entries = catalogue.models()["models"]
    default = next((entry["name"] for entry in entries if entry.get("default")), "")
    names, shown = [entry["name"] for entry in entries], [*map(job_view, document["jobs"])]
    return _page("jobs.html", jobs=shown, waits_for=document["waits_for"], models=names, default=default)


def job_view(document: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a job with its numbers as texts. `static/site/job.js` writes the same texts."""
    is_open, rate = document["state"] in OPEN, document["rows_per_s"]
    return document | {
        "look": LOOKS.get(document["state"], "wait"),
        "is_open": is_open,
        "percent": f"{math.floor(document['fraction'] * 100)} %",
        "rows": f"{document['rows']:,}",
        "rejected": f"{document['rejected']:,}",
        "rate": f"{round(rate):,}" if rate else UNKNOWN,
        "left": duration(document["left_s"]) if is_open else UNKNOWN,
    }


def duration(seconds: float | None) -> str:
    """Return a duration in hours, minutes and seconds."""
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(math.ceil(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _negotiated(page: Callable[[], Response], document: Callable[[], Response]) -> Response:
    """Return the page to a browser, and the document to other clients."""
    # JSON is named first: it wins the tie when a program accepts anything (`*/*`) or does not say.
    media_type = request.accept_mimetypes.best_match(["application/json", "text/html"])
    response = page() if media_type == "text/html" else document()
    response.vary.add("Accept")
    return response


def _home(catalogue: Catalogue) -> Response:
    """Return the home page: every model, and the playground of the default model if it is available."""
    cards = _cards(catalogue)
    default = next((card for card in cards if card["default"] and card["available"]), None)
    if default is None:
        return _page("home.html", cards=cards)
    described = default["current"]
    return _page("home.html", cards=cards, page=model_page(described, None), playground=_playground(described, None))


def _model(catalogue: Catalogue, name: str, version: str | None) -> Response:
    described = catalogue.model(name, version)
    is_available = described["state"] == AVAILABLE and "inputs" in described
    values = _playground(described, version) if is_available else None
    return _page("model.html", page=model_page(described, version), playground=values)


def _playground(described: dict[str, Any], version: str | None) -> dict[str, Any]:
    return playground(described, version, request.url_root, request.args or None)


def _cards(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return the cards of all models, the default model first."""
    described = catalogue.current()
    entries = sorted(catalogue.models()["models"], key=lambda entry: (not entry.get("default"), entry["name"]))
    return [card_of(entry, described.get(entry["name"], {})) for entry in entries]


def _liveness() -> Response:
    root = root_of(request.environ)
    places = ("docs", "redoc", "openapi.json", "models", "livez", "readyz")
    links = {place.removesuffix(".json"): f"{root}/{place}" for place in places}
    return jsonify({"status": "alive", "links": links})


def _page(template: str, policy: dict[str, str] | None = None, **values: Any) -> Response:
    """Return an HTML page with the strict Content-Security-Policy, in which `policy` replaces directives."""
    text, headers = render(current_app.jinja_env, request.environ, template, policy or {}, **values)
    response = Response(text, headers=headers)
    if request.accept_encodings["gzip"] > 0:
        response.set_data(gzip.compress(response.get_data(), 5))
        response.headers["Content-Encoding"] = "gzip"
    response.vary.add("Accept-Encoding")
    return response
