"""The base of the applications of these tests: WSGI, served in each way of the worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from app.server.contract import (
    Environ,
    PlainApp,
    PlainRequest,
    Refusal,
    Response,
    ServedRequest,
    ServingApp,
    status_line,
)
from app.telemetry import request_id_from


class Serving:
    """Run all requests in threads, through WSGI, unless a subclass changes that; refuse with problem documents."""

    def runs_inline(self, environ: Environ) -> bool:
        return False

    def may_block(self, environ: Environ) -> bool:
        return False

    def batch_key(self, environ: Environ) -> Hashable:
        return None

    def client(self, environ: Environ) -> Hashable:
        return environ.get("REMOTE_ADDR", "")

    def admit(self, environ: Environ) -> ServedRequest:
        inline, key = self.runs_inline(environ), self.batch_key(environ)
        through_wsgi = not inline and key is None
        return PlainRequest(environ, self.client(environ), inline, key, self.may_block(environ), through_wsgi)

    def client_of(self, environ: Environ) -> Hashable:
        return self.client(environ)

    def refuse_by_head(self, environ: Environ) -> Response | None:
        return None

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response]:
        return [self._respond_alone(request.environ) for request in requests]

    def _respond_alone(self, environ: Environ) -> Response:
        told: list[tuple[str, list[tuple[str, str]]]] = []
        body = b"".join(self(environ, lambda status, headers: told.append((status, headers))))
        ((status, headers),) = told
        return Response(int(status[:3]), headers, body)

    def __call__(self, environ: Environ, start_response: Any, /) -> Iterable[bytes]:
        raise NotImplementedError

    def refuse(self, environ: Environ, request: ServedRequest | None, refusal: Refusal) -> Response:
        request_id = request_id_from(environ.get("HTTP_X_REQUEST_ID"))
        document = {
            "type": f"/problems/{refusal.name}",
            "title": status_line(refusal.status)[4:],
            "status": refusal.status,
            "detail": refusal.detail,
            "request_id": request_id,
        }
        headers = [
            ("Content-Type", "application/problem+json"),
            ("X-Request-ID", request_id),
            *refusal.headers.items(),
        ]
        return Response(refusal.status, headers, json.dumps(document, separators=(",", ":")).encode())

    def started(self, snapshot: Callable[[], dict[str, Any]]) -> None: ...

    def observe(self) -> None: ...

    def draining(self) -> None: ...


def as_serving(application: Any) -> ServingApp:
    """Return the application itself, for `RetortWorker.serving_app`: applications of these tests are `ServingApp`s."""
    return application if hasattr(application, "admit") else PlainApp(application)
