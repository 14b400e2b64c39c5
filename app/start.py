"""Check the settings, then run a command in place of this process: `python -m app.start COMMAND [ARGUMENT…]`.

Gunicorn reads some environment variables as soon as it is imported, long before its configuration file, and ends with
a traceback where it cannot read them. Here they are checked first, and `WEB_CONCURRENCY` becomes a number.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from app.errors import InvalidSettings
from app.settings import Settings


def main(command: list[str]) -> NoReturn:
    """Replace this process by `command`, with an environment that Gunicorn can read.

    Raises:
        SystemExit: the settings are not usable, or there is no such command.
    """
    if not command:
        raise SystemExit("usage: python -m app.start COMMAND [ARGUMENT…]")
    try:
        settings = Settings.from_environ(os.environ)
    except InvalidSettings as error:
        raise SystemExit(f"retort: {error.detail}") from None
    environ = {**os.environ, "WEB_CONCURRENCY": str(settings.web_concurrency)}
    try:
        os.execvpe(command[0], command, environ)  # noqa: S606 - the command line of whoever starts this
    except OSError as error:
        raise SystemExit(f"retort: {command[0]} cannot be run: {error.strerror}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
