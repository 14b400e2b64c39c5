"""A plain WSGI application of a test as what the worker serves: it may say how its requests are run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from app.server.answers import TITLES
from app.server.contract import Environ, PlainApp, PlainRequest, Refusal, Response, ServedRequest


class SeamedApp(PlainApp):
    """Looks at an application of a test for `runs_inline(environ)`, `batch_key(environ)`, `may_block(environ)`,
    `client(environ)`, `respond(environs)`, `draining()` and `observe(snapshot)`; each may be absent.

    Requests that run inline, or have a key, are answered by `respond`, or else by calling the application. Refusals are
    small problem documents.
    """

    def __init__(self, application: Any) -> None:
        super().__init__(application)
        self._seams = application
        self._snapshot: Callable[[], dict[str, Any]] = dict

    def admit(self, environ: Environ) -> PlainRequest:
        client = self._ask("client", environ) or environ.get("REMOTE_ADDR", "")
        request = PlainRequest(environ, client)
        request.may_block = bool(self._ask("may_block", environ))
        request.runs_inline = bool(self._ask("runs_inline", environ)) and not request.may_block
        request.batch_key = self._ask("batch_key", environ)
        request.through_wsgi = not request.runs_inline and request.batch_key is None
        return request

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response] | None:
        if hasattr(self._seams, "respond"):
            return self._seams.respond([request.environ for request in requests])  # type: ignore[no-any-return]
        return [self._called(request.environ) for request in requests]

    def _called(self, environ: Environ) -> Response:
        begun: list[Any] = []
        written: list[bytes] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            begun[:] = [int(status[:3]), list(headers)]
            return written.append

        parts = self._seams(environ, start_response)
        body = b"".join([*written, *parts])
        if hasattr(parts, "close"):
            parts.close()
        return Response(*begun, body)

    def refuse(self, environ: Environ, request: ServedRequest | None, refusal: Refusal) -> Response:
        document: dict[str, Any] = {
            "type": f"/problems/{refusal.name}",
            "title": TITLES.get(refusal.status, ""),
            "status": refusal.status,
            "detail": refusal.detail,
            "request_id": environ.get("HTTP_X_REQUEST_ID", "made"),
        }
        headers = [("Content-Type", "application/problem+json"), *refusal.headers.items()]
        headers.append(("X-Request-ID", document["request_id"]))
        return Response(refusal.status, headers, json.dumps(document, separators=(",", ":")).encode())

    def started(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot
        with contextlib.suppress(AttributeError):
            self._seams.snapshot = snapshot

    def observe(self) -> None:
        if hasattr(self._seams, "observe"):
            self._seams.observe(self._snapshot())

    def draining(self) -> None:
        if hasattr(self._seams, "draining"):
            self._seams.draining()

    def _ask(self, seam: str, environ: Environ) -> Any:
        return getattr(self._seams, seam)(environ) if hasattr(self._seams, seam) else None
