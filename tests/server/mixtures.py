"""Ordinary, odd and wrong requests in bytes, for the fuzzers of the worker."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

FIELDS = (
    (
        "Host: a|Host: b|X-A: 1|x-a: 2|X_A: 3|Content-Length: 5|Content-Length: 05|Content-Length: +5|"
        "Content-Length: 5, 5|Transfer-Encoding: chunked|Transfer-Encoding: identity|"
        "Transfer-Encoding : chunked|Transfer-Encoding: gzip, chunked|TE: trailers|Connection: close|"
        "Connection: keep-alive, x|X:|: x|X: \0|X: a\rb|X: a\nb| folded|\tfolded|X : 1|X: a\x7f|"
        "X-Forwarded-Proto: https|X-Forwarded-Ssl: on|X-\xc3\xa9: 1|X: \xc3\xa9|Cookie: a=b|Cookie: c=d|"
        "Expect: 100-continue|Content-Type: a|Content_Length: 5|Script-Name: /x|Upgrade: h2c|no colon|"
        "X: a \t"
    )
    .encode("latin-1")
    .split(b"|")
)
LINES = (
    (
        "GET / HTTP/1.1|POST /p%20q?a=b HTTP/1.1|GET  / HTTP/1.1|GET / HTTP/1.0|GET /  HTTP/1.1|"
        "GET / HTTP/1.1 |get / HTTP/1.1|GET // HTTP/1.1|GET /#f HTTP/1.1|GET http://h/p?q HTTP/1.1|"
        "OPTIONS * HTTP/1.1|GET * HTTP/1.1|CONNECT a:1 HTTP/1.1|GET /\xff HTTP/1.1|GET /\x7f HTTP/1.1|"
        "GET /a:b HTTP/1.1|GE T / HTTP/1.1|GET\t/ HTTP/1.1|GET / HTTP/1.2|GET / HTTP/11.1|GET / http/1.1|"
        " GET / HTTP/1.1|GET / HTTP/0.9|GET /||M-SEARCH / HTTP/1.1|GET /;p?q=%0a HTTP/1.1|"
        "GET /[ HTTP/1.1|GET //[ HTTP/1.1|PRI * HTTP/2.0"
    )
    .encode("latin-1")
    .split(b"|")
)
ENDS = st.sampled_from([b"\r\n"] * 30 + [b"\n", b"\r", b"\r\r\n", b"\r\n\r\n"])
BODIES = [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"]


@st.composite
def requests(draw: Any) -> bytes:
    ordinary = draw(st.integers(0, 3)) > 0
    line = draw(st.sampled_from(LINES[:2] if ordinary else LINES))
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4))
    written = line + draw(ENDS)
    for field in fields:
        written += field + draw(ENDS)
    return written + b"\r\n" + draw(st.sampled_from(BODIES))


TOKEN = b"@@@@@@"
"""Placeholder for a request's number. `numbered` replaces it by one of the same length."""
PATHS = (b"/quick", b"/thread", b"/hold", b"/big", b"/stream", b"/batched", b"/batched/hold")
LAST_CHUNKS = (b"0\r\n\r\n", b"0\r\nX-T: 1\r\n\r\n", b"000;e\r\n\r\n")


def numbered(content: bytes, number: int) -> bytes:
    return content.replace(TOKEN, b"%0*d" % (len(TOKEN), number))


@st.composite
def ordinary(draw: Any) -> bytes:
    """Return a request of an ordinary client, with TOKEN in its target and in its body."""
    path = draw(st.sampled_from(PATHS))
    kind = draw(st.sampled_from(("get", "get", "head", "length", "length", "chunks", "1.0")))
    fields = b"Host: a\r\n" + draw(
        st.sampled_from((b"",) * 8 + (b"Connection: close\r\n", b"Expect: 100-continue\r\n"))
    )
    if kind in ("get", "head"):
        return b"%b %b?n=%b HTTP/1.1\r\n%b\r\n" % (kind.upper().encode(), path, TOKEN, fields)
    if kind == "1.0":
        return b"GET %b?n=%b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % (path, TOKEN)
    body = b"%b:" % TOKEN + draw(st.sampled_from((b"", b"x", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"y" * 3000)))
    head = b"POST %b?n=%b HTTP/1.1\r\n%b" % (path, TOKEN, fields)
    if kind == "length":
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), draw(EXTENSIONS), part) for part in parts if part)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + draw(st.sampled_from(LAST_CHUNKS))


EXTENSIONS = st.sampled_from((b"", b"", b";a=b", b' ;a="q;"'))
NASTY = st.sampled_from((b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b"0", b"f", b"\xff", b"\r\n\r\n", b"HTTP/1.1", b";"))


@st.composite
def mutated(draw: Any) -> bytes:
    """Return an ordinary request with one change."""
    content: bytes = draw(ordinary())
    at = draw(st.integers(0, min(len(content), 300)))
    how = draw(st.sampled_from(("cut", "insert", "replace", "repeat", "flip")))
    size = draw(st.integers(1, 8))
    if how == "cut":
        return content[:at] + content[at + size :]
    if how == "insert":
        return content[:at] + draw(NASTY) + content[at:]
    if how == "replace":
        return content[:at] + draw(NASTY) + content[at + 1 :]
    if how == "repeat":
        return content[:at] + content[max(0, at - 8 * size) :]
    flipped = bytes([content[at] ^ 1 << size - 1]) if at < len(content) else b""
    return content[:at] + flipped + content[at + 1 :]
