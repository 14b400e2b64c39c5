"""The blueprint of the pages: home, Swagger UI, ReDoc, the problem types, and their assets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from flask import Blueprint, Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import NotFound
from werkzeug.http import HTTP_STATUS_CODES

from app.errors import RetortError
from app.gateway.forwarded import root_of
from app.gateway.problem_types import PROBLEMS, ProblemType
from app.web.assets import REDOC, SWAGGER_UI, asset, own_edition
from app.web.cards import Card, answering_card, has_available, silent_card

DAY_S: Final = 24 * 3600
ASSETS: Final = "/static/web"
# Nothing from other servers, nothing inline. Swagger UI's stylesheet contains `data:` images.
_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'self'",
}
# ReDoc searches in a worker made from a blob, and inserts two style elements: an empty one, which it fills through the
# object model, and one for its scroll bars. The hashes allow these two texts and no other.
_REDOC_POLICY: Final = {
    "style-src": "'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
    "worker-src": "blob:",
}


_STATUSES = {phrase.lower().replace(" ", "-"): status for status, phrase in HTTP_STATUS_CODES.items() if status >= 400}


class Catalogue(Protocol):
    """The models as the pages see them: the bodies of GET /models and of GET /models/<name>."""

    def models(self) -> dict[str, Any]:
        """Return every model, with the state of each of its versions."""

    def model(self, name: str, /) -> dict[str, Any]:
        """Return one model in full; raise RetortError if no version of it can answer."""


def blueprint(catalogue: Catalogue) -> Blueprint:
    """Return the pages. `catalogue` is called for each page, from several threads."""
    pages = Blueprint("web", __name__, template_folder="templates")

    @pages.get("/")
    def home() -> Response:
        return _negotiated(lambda: _page("home.html", cards=_cards(catalogue)), _alive)

    @pages.get("/problems")
    def problems() -> Response:
        found = PROBLEMS.values()
        return _negotiated(
            lambda: _page("problems.html", problems=found),
            lambda: jsonify({"problems": [each.document() for each in found]}),
        )

    @pages.get("/problems/<name>")
    def problem(name: str) -> Response:
        found = problem_type(name)
        if found is None:
            raise NotFound
        return _negotiated(lambda: _page("problem.html", problem=found), lambda: jsonify(found.document()))

    @pages.get("/docs")
    def docs() -> Response:
        return _page("docs.html", edition=SWAGGER_UI)

    @pages.get("/redoc")
    def redoc() -> Response:
        return _page("redoc.html", _REDOC_POLICY, edition=REDOC)

    @pages.get("/favicon.ico")
    def favicon() -> Response:
        # For clients that load no page. Every page names the icon by its cacheable URL.
        response = asset("site", "", "retort.svg")
        response.headers["Cache-Control"] = f"public, max-age={DAY_S}"
        return response

    pages.add_url_rule(f"{ASSETS}/<library>/<edition>/<path:filename>", "asset", asset)
    return pages


def problem_type(name: str) -> ProblemType | None:
    """Return the problem type of this name, which may be made of an HTTP status that a user's view answers with."""
    if name in PROBLEMS:
        return PROBLEMS[name]
    status = _STATUSES.get(name)
    return None if status is None else ProblemType(name, status, f"The answer has the HTTP status {status}.")


def _negotiated(page: Callable[[], Response], document: Callable[[], Response]) -> Response:
    """Return the page to a browser, and the document to other clients."""
    # JSON is named first: it wins the tie when a program accepts anything (`*/*`) or does not say.
    wanted = request.accept_mimetypes.best_match(["application/json", "text/html"])
    response = page() if wanted == "text/html" else document()
    response.vary.add("Accept")
    return response


def _cards(catalogue: Catalogue) -> list[Card]:
    """Return every model, the default one first, described as far as possible now."""
    entries = sorted(catalogue.models()["models"], key=lambda entry: (not entry.get("default"), entry["name"]))
    return [_card(catalogue, entry) for entry in entries]


def _card(catalogue: Catalogue, entry: dict[str, Any]) -> Card:
    if not has_available(entry):
        return silent_card(entry)
    try:
        return answering_card(entry, catalogue.model(entry["name"]), request.url_root)
    except RetortError as error:  # the last version was retired after the list was made
        return silent_card(entry, error.detail)


def _alive() -> Response:
    root = root_of(request.environ)
    places = ("docs", "redoc", "openapi.json", "models", "livez", "readyz")
    links = {place.removesuffix(".json"): f"{root}/{place}" for place in places}
    return jsonify({"status": "alive", "links": links})


def _page(template: str, policy: dict[str, str] | None = None, **values: Any) -> Response:
    """Return one HTML page with the strict policy, extended by `policy`. It is not cached, because models change."""

    root = root_of(request.environ)

    def asset_url(library: str, edition: str, filename: str) -> str:
        return f"{root}{ASSETS}/{library}/{edition}/{filename}"

    def own(filename: str) -> str:
        return asset_url("site", own_edition(), filename)

    response = make_response(render_template(f"web/{template}", own=own, asset_url=asset_url, root=root, **values))
    directives = {**_POLICY, **(policy or {})}
    response.headers["Content-Security-Policy"] = "; ".join(f"{name} {allowed}" for name, allowed in directives.items())
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    return response
