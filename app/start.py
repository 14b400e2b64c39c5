"""Check the settings, then replace this process by a command: `python -m app.start COMMAND [ARGUMENT…]`.

Gunicorn reads some environment variables when it is imported, before its configuration file. If one is invalid, it
exits with a traceback. So this module checks them first, and turns `WEB_CONCURRENCY` into a number. It also reads
`.env` and `.flaskenv`.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from app.errors import InvalidSettings
from app.settings import Settings
from app.settings.env_files import environ_with_files


def main(command: list[str]) -> NoReturn:
    """Replace this process by `command`, with an environment that Gunicorn can read.

    Raises:
        SystemExit: the settings are not usable, or the command does not exist.
    """
    if not command:
        raise SystemExit("usage: python -m app.start COMMAND [ARGUMENT…]")
    try:
        environ = environ_with_files()
        settings = Settings.from_environ(environ)
    except (OSError, ValueError) as error:
        raise SystemExit(f"retort: .env or .flaskenv cannot be read: {error}") from None
    except InvalidSettings as error:
        raise SystemExit(f"retort: {error.detail}") from None
    environ["WEB_CONCURRENCY"] = str(settings.web_concurrency)
    try:
        os.execvpe(command[0], command, environ)  # noqa: S606 - the user's own command line
    except OSError as error:
        raise SystemExit(f"retort: {command[0]} cannot be run: {error.strerror}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
