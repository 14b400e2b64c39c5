"""What every answer carries, whoever made it: the request id, and the headers that let other origins read it."""

from __future__ import annotations

from flask import Flask, Response, request

from app.settings import Settings
from app.telemetry import NO_REQUEST, request_id, request_id_from


def register(app: Flask, settings: Settings) -> None:
    """Gives each request its id before anything else, and writes it on its answer; lets other origins in, if set."""
    if settings.cors_origins:
        from flask_cors import CORS  # only where a setting asks for it

        CORS(app, origins=list(settings.cors_origins), expose_headers=["X-Request-ID", "Server-Timing"])

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
