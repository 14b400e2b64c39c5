"""What Gunicorn and `flask` find: the application."""

from app.factory import create_app

app = create_app()
