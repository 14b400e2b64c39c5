"""What Gunicorn and `flask` find: the application."""

from app.errors import InvalidSettings
from app.factory import create_app

try:
    app = create_app()
except InvalidSettings as error:
    raise SystemExit(f"retort: {error.detail}") from None
