"""Parse the responses that a client received, as an HTTP/1.1 client does."""

from __future__ import annotations

import re
from dataclasses import dataclass

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HEAD = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
FRAMING = re.compile(rb"(?im)^(content-length|transfer-encoding): ([^\r\n]*)\r$")


@dataclass
class ParsedResponse:
    """One response, possibly incomplete."""

    status: int
    body: bytes
    whole: bool


def answers_in(received: bytes, methods: list[str], ended: bool) -> list[ParsedResponse]:
    """Return each response; the last may be cut.

    Args:
        received: the bytes.
        methods: the methods of the requests.
        ended: the server closed the connection.

    Raises:
        AssertionError: the bytes are not a sequence of responses.
    """
    found: list[ParsedResponse] = []
    while received:
        if received.startswith(CONTINUE):
            received = received[len(CONTINUE) :]
            continue
        match = HEAD.match(received)
        if match is None:
            assert b"\r\n\r\n" not in received, f"no answer begins with {received[:200]!r}"
            assert b"HTTP/1.1 ".startswith(received[:9]) or received.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")), received[
                :200
            ]
            return [*found, ParsedResponse(0, b"", whole=False)]
        framing = {name.lower(): value for name, value in FRAMING.findall(match[2])}
        assert len(framing) == len(FRAMING.findall(match[2])) < 2, received[:300]
        rest = received[match.end() :]
        is_head = len(found) < len(methods) and methods[len(found)] == "HEAD"
        response = ParsedResponse(int(match[1]), b"", whole=True)
        if is_head:
            received = rest
        elif b"content-length" in framing:
            length = int(framing[b"content-length"])
            response.body, response.whole = rest[:length], len(rest) >= length
            received = rest[length:]
        elif b"transfer-encoding" in framing:
            response.body, response.whole, received = _unchunked(rest)
        else:  # it ends with the connection
            response.body, response.whole, received = rest, ended, b""
        found.append(response)
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
