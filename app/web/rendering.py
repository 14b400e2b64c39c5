"""HTML pages under the strict policy, inside and outside of a request to Flask, and errors as pages for browsers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from flask import Flask
from jinja2 import Environment
from markupsafe import Markup
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from app.gateway.errors import ErrorPage, Problem
from app.gateway.forwarded import root_of
from app.gateway.problem_types import PROBLEMS
from app.server.contract import Environ, Response
from app.telemetry import request_id
from app.web.assets import own_edition, stylesheet

ASSETS: Final = "/static/web"
PREDICTION: Final = re.compile(r"/((?:models/[^/]+(?:/versions/[^/]+)?)?)/?predict/?")
# Nothing from anywhere else, nothing inline but our own stylesheets, by their hashes. `data:` images are the arrows
# inside Swagger UI's own stylesheet.
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
    """Return a page and its header fields; `policy` loosens the strict one.

    It is never cached, as models come and go. Its own stylesheets stand inside, as on a slow connection another request
    takes longer than they do.
    """
    root = root_of(dict(environ))

    def asset_url(library: str, edition: str, filename: str) -> str:
        return f"{root}{ASSETS}/{library}/{edition}/{filename}"

    def own(filename: str) -> str:
        return asset_url("site", own_edition(), filename)

    admitted: list[str] = []

    def style(filename: str) -> Markup:
        text, source = stylesheet(filename)
        admitted.append(source)
        return Markup(f"<style>{text}</style>")  # noqa: S704 - a file of this package

    page = templates.get_template(f"web/{template}")
    text = page.render(own=own, style=style, asset_url=asset_url, root=root, here=environ["PATH_INFO"], **values)
    directives = {**_POLICY, **policy}
    directives["style-src"] = " ".join([directives["style-src"], *admitted])
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
    """Return how an error becomes a page; None for a request that no person looks at."""

    def page(environ: Environ, problem: Problem) -> Response | None:
        if not _by_browser(environ):
            return None
        known = PROBLEMS.get(problem.name)
        text, headers = render(
            app.jinja_env,
            environ,
            "error.html",
            {},
            problem=problem,
            phrase=HTTPStatus(problem.status).phrase,
            remedy=known.remedy if known else "",
            retry=problem.headers.get("Retry-After", ""),
            form=_form_of(environ) if problem.status == HTTPStatus.METHOD_NOT_ALLOWED else None,
            request_id=request_id(),
        )
        return Response(problem.status, [*headers.items(), ("Vary", "Accept")], text.encode())

    return page


def _form_of(environ: Environ) -> str | None:
    """Return the page with the form of the model that a prediction URL names, below the root; None for other URLs."""
    found = PREDICTION.fullmatch(environ["PATH_INFO"])
    return None if found is None else quote(found[1], encoding="latin-1")


def _by_browser(environ: Environ) -> bool:
    """Whether somebody opened the URL, or sent the plain form of a playground or of a job."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD") and not environ["PATH_INFO"].endswith(("/try", "/jobs")):
        return False
    accepted = parse_accept_header(environ.get("HTTP_ACCEPT"), MIMEAccept)
    return accepted.best_match(["application/json", "text/html"]) == "text/html"
