"""The service's own Gunicorn settings without its hooks, which want the service; the application runs inline."""

from gunicorn.config import KNOWN_SETTINGS

from app import gunicorn_conf
from app.server import RetortWorker
from app.server.contract import PlainApp, PlainRequest, Response

HOOKS = {setting.name for setting in KNOWN_SETTINGS if setting.section == "Server Hooks"}
KEPT = {setting.name for setting in KNOWN_SETTINGS} - HOOKS
globals().update({name: value for name, value in vars(gunicorn_conf).items() if name in KEPT})


class InlineApp(PlainApp):
    """A WSGI application that waits for nothing, and runs on the worker's loop as Retort's small requests do."""

    def admit(self, environ):
        return PlainRequest(environ, "", runs_inline=True, through_wsgi=False)

    def respond(self, requests):
        return [self._called(request.environ) for request in requests]

    def _called(self, environ):
        begun = []
        body = b"".join(self(environ, lambda status, headers: begun.extend((int(status[:3]), headers))))
        return Response(*begun, body)


RetortWorker.serving_app = InlineApp
