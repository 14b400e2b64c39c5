"""Serve any WSGI application inline, on the worker's loop."""

from collections.abc import Sequence

from app.server.contract import Environ, PlainApp, PlainRequest, Response, ServedRequest


class InlineApp(PlainApp):
    """Call the application on the loop's thread, one request after another."""

    def admit(self, environ: Environ) -> PlainRequest:
        return PlainRequest(environ, environ["REMOTE_ADDR"], runs_inline=True, through_wsgi=False)

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response]:
        return [self._respond(request.environ) for request in requests]

    def _respond(self, environ: Environ) -> Response:
        response = Response(500)

        def start_response(status: str, headers: list[tuple[str, str]]) -> None:
            response.status, response.headers = int(status[:3]), headers

        response.body = b"".join(self(environ, start_response))
        return response
