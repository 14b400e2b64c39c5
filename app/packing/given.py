"""Check the name and the files that the user gives, and read the card."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from app.errors import PackingRefused
from app.storage.repository import is_slug


def require_name(name: str) -> None:
    """Refuse a name that cannot stand in a URL."""
    if not is_slug(name):
        raise PackingRefused(
            f"name {name!r} cannot stand in a URL: 1 to 64 letters, digits, '.', '_' or '-', "
            "a letter or digit at both ends"
        )


def require_files(paths: Iterable[Path], label: str = "") -> None:
    """Refuse a file or folder that cannot be found; `label` begins the sentence."""
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            raise PackingRefused(f"{label} {path} cannot be read: {error.strerror}".lstrip()) from None


MAX_BYTES = 64 * 2**10


def card_of(path: str | None) -> str:
    """Return the text of a file in UTF-8; empty if there is none."""
    if path is None:
        return ""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise PackingRefused(f"the card {path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise PackingRefused(f"the card {path} has {len(content)} bytes; at most {MAX_BYTES} are kept")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").strip()
    except UnicodeDecodeError:
        raise PackingRefused(f"the card {path} is not UTF-8") from None
