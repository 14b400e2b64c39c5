"""Read settings from the files `.flaskenv` and `.env`, so that the server has the same settings as `flask`."""

from __future__ import annotations

import os
from pathlib import Path

FILES = (".flaskenv", ".env")
"""A variable in a later file replaces the same variable in an earlier one."""


def environ_with_files() -> dict[str, str]:
    """Return the environment, together with the variables of the files that it lacks.

    Raises:
        OSError, ValueError: a file cannot be read, or is not UTF-8.
    """
    return {**read_env_files(), **os.environ}


def read_env_files() -> dict[str, str]:
    """Return the variables in the files of the current folder, or of the next folder above that has one.

    The variable FLASK_SKIP_DOTENV switches this off, as it does for `flask`.

    Raises:
        OSError, ValueError: a file cannot be read, or is not UTF-8.
    """
    if os.environ.get("FLASK_SKIP_DOTENV", "").lower() not in ("", "0", "false", "no"):
        return {}
    folder = Path.cwd()
    folders = (folder, *folder.parents)
    nearest = [next(filter(Path.is_file, (parent / name for parent in folders)), None) for name in FILES]
    variables: dict[str, str | None] = {}
    for path in filter(None, nearest):
        from dotenv import dotenv_values

        variables |= dotenv_values(path, encoding="utf-8")
    return {name: value for name, value in variables.items() if value is not None}
