"""The service's own Gunicorn settings without its hooks, which need the service; requests run inline."""

from gunicorn.config import KNOWN_SETTINGS

from app import gunicorn_conf
from app.server import RetortWorker
from benchmarks.layers.inline import InlineApp

HOOKS = {setting.name for setting in KNOWN_SETTINGS if setting.section == "Server Hooks"}
KEPT = {setting.name for setting in KNOWN_SETTINGS} - HOOKS
globals().update({name: value for name, value in vars(gunicorn_conf).items() if name in KEPT})
RetortWorker.serving_app = InlineApp
