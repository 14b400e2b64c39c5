"""The author's card of a model: a text in Markdown, kept in the manifest and shown on the model's page."""

from __future__ import annotations

from pathlib import Path

from app.errors import PackingRefused

MAX_BYTES = 64 * 2**10


def card_of(path: str | None) -> str:
    """Return the text of a file; empty where there is none.

    Raises:
        PackingRefused: it cannot be read, is too long, or is not UTF-8.
    """
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
