"""Bytes inside JSON: base64, and what a value that holds bytes may look like."""

from __future__ import annotations

import binascii


class NotAccepted(ValueError):
    """The reason why a value is not accepted, as the end of a sentence."""


def bytes_of(text: str) -> bytes:
    """Return the bytes of a base64 text. White space is skipped, because command-line tools break lines.

    Raises:
        NotAccepted: the text is not base64 (RFC 4648 section 4).
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError:
        raise NotAccepted("must be base64 (RFC 4648)") from None
