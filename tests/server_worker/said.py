"""Parse the responses that a client received, as an HTTP/1.1 client does."""

from __future__ import annotations

import re
from dataclasses import dataclass

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
FRAMING = re.compile(rb"(?im)^(content-length|transfer-encoding): ([^\r\n]*)\r$")


@dataclass
class Said:
    """One response, possibly incomplete."""

    status: int
    body: bytes
    whole: bool


def answers_in(told: bytes, methods: list[str], ended: bool) -> list[Said]:
    """Return each response; the last may be cut.

    Args:
        told: the received bytes.
        methods: the methods of the requests.
        ended: the server closed the connection.

    Raises:
        AssertionError: the bytes are not a sequence of responses.
    """
    found: list[Said] = []
    while told:
        if told.startswith(CONTINUE):
            told = told[len(CONTINUE) :]
            continue
        match = HEAD.match(told)
        if match is None:
            assert b"\r\n\r\n" not in told, f"no answer begins with {told[:200]!r}"
            assert b"HTTP/1.1 ".startswith(told[:9]) or told.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), told[:200]
            return [*found, Said(0, b"", whole=False)]
        framing = {name.lower(): value for name, value in FRAMING.findall(match[2])}
        assert len(framing) == len(FRAMING.findall(match[2])) < 2, told[:300]
        rest = told[match.end() :]
        is_head = len(found) < len(methods) and methods[len(found)] == "HEAD"
        said = Said(int(match[1]), b"", whole=True)
        if is_head:
            told = rest
        elif b"content-length" in framing:
            length = int(framing[b"content-length"])
            said.body, said.whole = rest[:length], len(rest) >= length
            told = rest[length:]
        elif b"transfer-encoding" in framing:
            said.body, said.whole, told = _unchunked(rest)
        else:  # it lasts to the end
            said.body, said.whole, told = rest, ended, b""
        found.append(said)
    return found


def _unchunked(rest: bytes) -> tuple[bytes, bool, bytes]:
    body = b""
    while b"\r\n" in rest:
        size, _, after = rest.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert b"\r\n".startswith(after[:2]), after[:100]
            return body, after[:2] == b"\r\n", after[2:]
        body += after[:length]
        if len(after) < length + 2:
            return body, False, b""
        assert after[length : length + 2] == b"\r\n"
        rest = after[length + 2 :]
    return body, False, b""
