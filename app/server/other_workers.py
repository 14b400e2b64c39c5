"""Serve an application under Gunicorn's own workers, whose error pages would replace the application's refusals."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, NoMoreData, ParseException

from app.server import answers, refusals
from app.server.answers import WsgiAnswer
from app.server.contract import Environ, Response, ServedRequest, ServingApp

log = logging.getLogger(__name__)

OF_RESPONSES = (InvalidResponseHeader, InvalidResponseHeaderName)
"""Parse errors of Gunicorn that the application causes by its response. The client causes all other parse errors."""


class OtherWorkers:
    """A served application as a WSGI application. It runs each request like Retort's worker in a thread.

    An error before the first bytes of the body becomes a refusal that the application formats.
    """

    def __init__(self, app: ServingApp) -> None:
        self._app = app

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        request, answer = self._app.admit(environ), WsgiAnswer(environ["REQUEST_METHOD"] == "HEAD")
        parts = self._parts(request, answer)
        try:
            first = next(filter(None, parts), b"")
            if not answer.status:
                raise AssertionError("the application did not call start_response")
        except NoMoreData:  # the client is gone
            raise
        except Exception as error:
            log.exception("error in %s %r", environ["REQUEST_METHOD"], environ.get("RAW_URI"))
            is_malformed = isinstance(error, ParseException) and not isinstance(error, OF_RESPONSES)
            refusal = refusals.malformed(error) if is_malformed else refusals.FAILED
            answer = WsgiAnswer(answer.is_head)
            parts = _parts_of(self._app.refuse(environ, request, refusal), answer)
            first = next(parts)
        answer.started = True
        start_response(answer.status, [*answer.headers])
        return _join(first, parts)

    def _parts(self, request: ServedRequest, answer: WsgiAnswer) -> Iterator[bytes]:
        """Run a request, and yield the parts of its body."""
        responses = None if request.through_wsgi else self._app.respond([request])
        if responses is not None:
            yield from _parts_of(responses[0], answer)
            return
        body = self._app(request.environ, answer.start_response)
        try:
            if isinstance(body, list | tuple):
                yield answers.complete_body(answer, [*(answer.written or ()), *body])
                return
            for part in answers.in_order(answer, body):
                yield answers.allowed_part(answer, part)
        finally:
            answers.close(body)


def _parts_of(response: Response, answer: WsgiAnswer) -> Iterator[bytes]:
    if isinstance(response.body, bytes):
        yield answers.whole_body(answer, response)
        return
    try:
        answers.set_head(answer, response)
        for part in response.body:
            yield answers.allowed_part(answer, part)
    finally:
        answers.close(response.body)


def _join(first: bytes, parts: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from parts
