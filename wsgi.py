"""The WSGI application, for Gunicorn and `flask`."""

import sys

from app import InvalidSettings, create_app

if __name__ == "__main__":
    sys.stderr.write(
        "A server loads this file: it does nothing by itself. To serve, run `make serve`, or in production\n"
        "python -m app.start gunicorn --config python:app.gunicorn_conf wsgi:app\n"
    )
    raise SystemExit(2)

try:
    app = create_app()
except InvalidSettings as error:
    raise SystemExit(f"retort: {error.detail}") from None
