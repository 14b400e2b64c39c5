"""Bytes inside JSON: base64, and what a value that holds bytes may look like."""

from __future__ import annotations

import binascii


class NotAccepted(ValueError):
    """What is wrong with a value, as the end of a sentence."""


def bytes_of(text: str) -> bytes:
    """The bytes that base64 stands for; white space between is skipped, as command-line tools break lines.

    Raises:
        NotAccepted: it is no base64 (RFC 4648 section 4).
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError:
        raise NotAccepted("must be base64 (RFC 4648)") from None
