"""What every answer carries, whoever made it: the request id."""

from __future__ import annotations

from flask import Flask, Response, request

from app.telemetry import NO_REQUEST, request_id, request_id_from


def register(app: Flask) -> None:
    """Gives each request its id before anything else, and writes it on its answer."""

    @app.before_request
    def begin() -> None:
        request_id.set(request_id_from(request.headers.get("X-Request-ID")))

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = request_id.get()
        return response

    @app.teardown_request
    def end(error: BaseException | None) -> None:
        request_id.set(NO_REQUEST)
