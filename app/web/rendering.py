"""Render HTML pages with a strict Content-Security-Policy, render errors as pages, and serve the assets.

The URLs of stylesheets, scripts and icons contain an edition, so browsers cache them for a year. The edition of a
vendored library is its release. The edition of this package's own files is a digest of their content, so a changed
stylesheet gets a new URL.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from flask import Flask, request
from flask import Response as FlaskResponse
from jinja2 import Environment
from markupsafe import Markup
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import NotFound
from werkzeug.http import parse_accept_header
from werkzeug.security import safe_join

from app.gateway.errors import ErrorPage, Problem
from app.gateway.forwarded import root_of
from app.gateway.problem_types import PROBLEMS
from app.server.contract import Environ, Response
from app.telemetry import request_id

ASSETS: Final = "/static/web"
SWAGGER_UI: Final = "5.35.0"
REDOC: Final = "2.5.4"

_FOLDER: Final = Path(__file__).with_name("static")
_SITE: Final = "site"
_YEAR_S: Final = 365 * 24 * 3600
# `mimetypes` depends on the machine, and with "nosniff" a wrong type results in a blank page.
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript", ".svg": "image/svg+xml"}
PREDICTION: Final = re.compile(r"/((?:models/[^/]+(?:/versions/[^/]+)?)?)/?predict/?")
# Nothing from other hosts, and nothing inline except our own stylesheets, by their hashes. The `data:` images are the
# arrows in Swagger UI's stylesheet.
_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'self'",
}


def render(
    templates: Environment, environ: Mapping[str, Any], template: str, policy: Mapping[str, str], **values: Any
) -> tuple[str, dict[str, str]]:
    """Return a page and its header fields. `policy` replaces directives of the strict policy.

    Pages are not cached, because models change. Stylesheets are inline, because a request for each would take longer on
    a slow connection.
    """
    root = root_of(dict(environ))

    def asset_url(library: str, edition: str, filename: str) -> str:
        return f"{root}{ASSETS}/{library}/{edition}/{filename}"

    def own(filename: str) -> str:
        return asset_url("site", own_edition(), filename)

    allowed_styles: list[str] = []

    def style(filename: str) -> Markup:
        text, source = stylesheet(filename)
        allowed_styles.append(source)
        return Markup(f"<style>{text}</style>")  # noqa: S704 - a file of this package

    page = templates.get_template(f"web/{template}")
    text = page.render(own=own, style=style, asset_url=asset_url, root=root, here=environ["PATH_INFO"], **values)
    directives = {**_POLICY, **policy}
    directives["style-src"] = " ".join([directives["style-src"], *allowed_styles])
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(f"{name} {allowed}" for name, allowed in directives.items()),
        "X-Content-Type-Options": "nosniff",
        # Not "no-referrer": a form would come with `Origin: null`, as if it were a page of another origin.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
    return text, headers


def error_page(app: Flask) -> ErrorPage:
    """Return a function that renders a problem as a page; it returns None for requests of programs."""

    def page(environ: Environ, problem: Problem) -> Response | None:
        if not _is_browser(environ):
            return None
        problem_type = PROBLEMS.get(problem.name)
        text, headers = render(
            app.jinja_env,
            environ,
            "error.html",
            {},
            problem=problem,
            phrase=HTTPStatus(problem.status).phrase,
            remedy=problem_type.remedy if problem_type else "",
            retry=problem.headers.get("Retry-After", ""),
            form=_form_of(environ) if problem.status == HTTPStatus.METHOD_NOT_ALLOWED else None,
            request_id=request_id(),
        )
        return Response(problem.status, [*headers.items(), ("Vary", "Accept")], text.encode())

    return page


def _form_of(environ: Environ) -> str | None:
    """Return the path of the playground for a prediction URL, relative to the root; None for other URLs."""
    prediction_url = PREDICTION.fullmatch(environ["PATH_INFO"])
    return None if prediction_url is None else quote(prediction_url[1], encoding="latin-1")


def _is_browser(environ: Environ) -> bool:
    """Return whether a browser opened the URL, or sent the form of a playground or of a job."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD") and not environ["PATH_INFO"].endswith(("/try", "/jobs")):
        return False
    accepted = parse_accept_header(environ.get("HTTP_ACCEPT"), MIMEAccept)
    return accepted.best_match(["application/json", "text/html"]) == "text/html"


@lru_cache(maxsize=1)
def own_edition() -> str:
    """Return the digest of this package's own assets, computed once in a process."""
    digest = hashlib.sha256()
    for path in sorted((_FOLDER / _SITE).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@lru_cache(maxsize=32)
def stylesheet(filename: str) -> tuple[str, str]:
    """Return one of this package's stylesheets, and the CSP source expression that allows it inline."""
    text = (_FOLDER / _SITE / filename).read_text("utf-8")
    return text, f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def asset(library: str, edition: str, filename: str) -> FlaskResponse:
    """Return one file. Browsers may cache it for a year if the URL has the current edition; else they revalidate it.

    During a rollout, an old page may request its old stylesheet from a new server. It receives the current one, which
    caches must not keep under the old URL.

    Raises:
        NotFound: there is no such file in the folder.
    """
    is_own = library == _SITE
    path = safe_join(str(_FOLDER), library, filename) if is_own else safe_join(str(_FOLDER), library, edition, filename)
    if path is None or not Path(path).is_file():
        raise NotFound
    response = _response(Path(path))
    is_lasting = not is_own or edition == own_edition()
    response.headers["Cache-Control"] = f"public, max-age={_YEAR_S}, immutable" if is_lasting else "no-cache"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _response(path: Path) -> FlaskResponse:
    mimetype = _TYPES.get(path.suffix, "text/plain")
    if path.suffix in _TYPES and request.accept_encodings["gzip"] > 0:
        response = FlaskResponse(_gzip(path), mimetype=mimetype, headers={"Content-Encoding": "gzip"})
    else:
        response = FlaskResponse(path.read_bytes(), mimetype=mimetype)
    response.add_etag()
    response.make_conditional(request)
    return response


@lru_cache(maxsize=64)
def _gzip(path: Path) -> bytes:
    """Return the compressed file, computed once. The documentation bundles shrink from 3 MB to 0.8 MB."""
    return gzip.compress(path.read_bytes(), 6, mtime=0)
