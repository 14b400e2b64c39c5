"""The service's own Gunicorn settings without its hooks, which want the service."""

from gunicorn.config import KNOWN_SETTINGS

from app import gunicorn_conf

HOOKS = {setting.name for setting in KNOWN_SETTINGS if setting.section == "Server Hooks"}
KEPT = {setting.name for setting in KNOWN_SETTINGS} - HOOKS
globals().update({name: value for name, value in vars(gunicorn_conf).items() if name in KEPT})
