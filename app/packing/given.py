"""Check the name and the files that the user gives, before a process is started for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from app.errors import PackingRefused
from app.storage.repository import is_slug


def require_name(name: str) -> None:
    """Refuse a name that cannot stand in a URL.

    Raises:
        PackingRefused: saying which names can.
    """
    if not is_slug(name):
        raise PackingRefused(
            f"name {name!r} cannot stand in a URL: 1 to 64 letters, digits, '.', '_' or '-', "
            "a letter or digit at both ends"
        )


def require_files(paths: Iterable[Path], label: str = "") -> None:
    """Refuse a file that is not there.

    Args:
        paths: the files, or folders.
        label: what the files are, as the beginning of the sentence.

    Raises:
        PackingRefused: naming the first file that cannot be found.
    """
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            raise PackingRefused(f"{label} {path} cannot be read: {error.strerror}".lstrip()) from None
