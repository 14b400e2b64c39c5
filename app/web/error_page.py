"""Errors as pages: what a browser shows where a program gets a problem document."""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from app.gateway.errors import ErrorPage, Problem
from app.gateway.problem_types import PROBLEMS
from app.server.contract import Environ, Response
from app.telemetry import request_id
from app.web.rendering import render


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
            request_id=request_id(),
        )
        return Response(problem.status, [*headers.items(), ("Vary", "Accept")], text.encode())

    return page


def _by_browser(environ: Environ) -> bool:
    """Whether somebody opened the URL, or sent the plain form of a playground."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD") and not environ["PATH_INFO"].endswith("/try"):
        return False
    accepted = parse_accept_header(environ.get("HTTP_ACCEPT"), MIMEAccept)
    return accepted.best_match(["application/json", "text/html"]) == "text/html"
