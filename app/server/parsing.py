"""Request heads: from bytes to a WSGI environ, by Gunicorn's parser and Gunicorn's header policy.

Nearly all heads are ordinary: a regular expression parses them, and this module makes their environ. Gunicorn's
`Request`, with its Python parser (the reference), parses all other heads: with an error, an underscore in a name, a
repeated field, `Expect`, `Transfer-Encoding`, the PROXY protocol, an absolute target, and so on. Gunicorn's
`wsgi.create` makes the environ of these. So no head can mean one thing here and another in Gunicorn.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gunicorn import util
from gunicorn.http import message, wsgi
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, NoMoreData
from gunicorn.http.unreader import IterUnreader

from app.server.contract import Environ

ORIGIN_FORM = re.compile(rb"/(?!/)[!-\"$-~]*")
"""A target in origin form (RFC 9112 section 3.2.1). Gunicorn parses targets with `//` or `#`, and all other forms."""
ORDINARY_HEAD = re.compile(
    rb"([A-Z]{3,20}+) (/[!-~]*+) HTTP/1\.([01])\r\n"
    rb"((?:[!#$%&'*+\-.^`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+\r\n)*+)\r\n"
)
"""An ordinary head (RFC 9112 section 3, RFC 9110 section 5.5): nothing in it that Gunicorn might parse differently."""
METHOD = re.compile(rb"([!-~]+) ")
PATH = re.compile(rb"[!-~]+ (/[^\s?]*)[ ?]")
FIELD = re.compile(rb"\n([A-Za-z0-9-]{1,64}):[ \t]*([\t -~\x80-\xff]{0,4096}?)[ \t]*(?=\r?\n)")
KNOWN_NAMES, KNOWN_NAME_BYTES = 2048, 256
"""Limits of the cached field names."""
KNOWN_HEADS, KNOWN_HEAD_BYTES = 512, 1024
"""Limits of the cached heads. Most clients send the same head again and again."""
LEFT_TO_GUNICORN = ""
"""The value in place of an environ key for field names that are left to Gunicorn."""
FIELDS_LEFT_TO_GUNICORN = frozenset({"EXPECT", "TRANSFER-ENCODING"})
CONNECTION_OPTIONS = {"close": False, "keep-alive": True}
CONNECTION_SPECIFIC = ("wsgi.early_hints", "gunicorn.socket")
"""Keys of Gunicorn's environ that give access to the socket, which only the loop may use."""


@dataclass(slots=True, eq=False)
class Head:
    """The head of one request. `length_bytes` is the length of its body, None if the body is chunked."""

    environ: Environ
    consumed: int
    length_bytes: int | None
    keep_alive: bool
    expects_continue: bool = False
    request: Any = None  # Gunicorn's, if Gunicorn parsed it


@dataclass(frozen=True, slots=True)
class _OrdinaryHead:
    """A parsed ordinary head. `schemes` has the scheme of each of its secure scheme headers."""

    fields: Environ
    length_bytes: int
    keep_alive: bool
    schemes: Sequence[str]


@dataclass(slots=True)
class Peer:
    """The addresses of both ends of a connection. `environ` is the common part of its requests' environs."""

    client: Any
    server: Any
    trusted: bool
    environ: Environ
    proxy: dict[str, str] | None = None


class _NoSocket:
    """A socket for Gunicorn that ignores its `100 Continue`: the connection itself sends one."""

    def send(self, content: bytes) -> int:
        return len(content)


class _WithPythonParser:
    """A configuration that selects Gunicorn's Python parser."""

    http_parser = "python"

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cfg, name)


class HeadReader:
    """Reader of heads with one Gunicorn configuration. Belongs to the loop's thread."""

    def __init__(self, cfg: Any, head_bytes: int) -> None:
        self._cfg = cfg
        self._python_cfg = _WithPythonParser(cfg)
        self._head_bytes = head_bytes
        line_bytes, most_bytes = cfg.limit_request_line, message.MAX_REQUEST_LINE
        self._line_bytes: int = line_bytes if 0 <= line_bytes < most_bytes else most_bytes
        """The limit of the request line; 0 for no limit."""
        self._gunicorn_first = cfg.proxy_protocol != "off"
        self._base = wsgi.base_environ(cfg) | {"wsgi.multithread": True, "wsgi.url_scheme": "http"}
        self._scheme_keys = [(_key(name), value) for name, value in cfg.secure_scheme_headers.items()]
        self._keys: dict[bytes, str] = {}
        self._known_heads: dict[bytes, _OrdinaryHead] = {}
        gunicorn_only = cfg.casefold_http_method, cfg.permit_obsolete_folding, cfg.strip_header_spaces
        self._parses_ordinary = not (any(gunicorn_only) or os.environ.get("SCRIPT_NAME"))
        fields, field_bytes = cfg.limit_request_fields, cfg.limit_request_field_size
        self._ordinary_fields = fields if 0 < fields <= message.MAX_HEADERS else message.MAX_HEADERS
        # In a head up to this length, no line and no field can be too long.
        field_bytes = field_bytes if field_bytes > 0 else message.DEFAULT_MAX_HEADERFIELD_SIZE
        self._ordinary_bytes = min(self._line_bytes or 2**20, field_bytes)

    def peer(self, client: Any, server: Any) -> Peer:
        """Return the peer of a connection between these two addresses."""
        trusted = (
            not isinstance(client, tuple)
            or "*" in self._cfg.forwarded_allow_ips
            or bool(message._ip_in_allow_list(client[0], (), self._cfg.forwarded_allow_networks()))
        )
        environ = self._base | {"SCRIPT_NAME": ""}
        if isinstance(client, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
        else:
            environ["REMOTE_ADDR"] = client.decode() if isinstance(client, bytes) else client
        if isinstance(server, tuple):
            environ["SERVER_NAME"], environ["SERVER_PORT"] = server[0], str(server[1])
        return Peer(client, server, trusted, environ)

    def read(self, received: bytes, seen_bytes: int, peer: Peer, number: int) -> Head | None:
        """Parse the head at the beginning of `received`; return None while it is incomplete.

        `seen_bytes` is the length of `received` at the last call. `number` counts the connection's requests from 1.

        Raises:
            ParseException: an error of Gunicorn's parser. Read no further requests from the connection.
        """
        head = None
        if not self._parses_ordinary or (number == 1 and self._gunicorn_first):
            # Parse from the start again, but only if a line has ended since: otherwise the result is the same.
            if b"\n" in received[max(0, seen_bytes - 1) :] or len(received) > self._line_bytes > 0 or not seen_bytes:
                head = self.parse_by_gunicorn(received, peer, number)
        elif (end := received.find(b"\r\n\r\n", max(0, seen_bytes - 3))) >= 0:
            head = self._read_ordinary(received[: end + 4], peer) or self.parse_by_gunicorn(received, peer, number)
        elif received.count(b"\n") != received.count(b"\r\n"):
            head = self.parse_by_gunicorn(received, peer, number)  # a bare line feed is refused at once
        if head is None:
            self._check_size(received)
        elif head.consumed > self._head_bytes:
            raise LimitRequestHeaders(f"the head is longer than {self._head_bytes} bytes")
        return head

    def _check_size(self, received: bytes) -> None:
        """Refuse an incomplete head that is already too long."""
        line_bytes = self._line_bytes
        if len(received) > line_bytes + 2 > 2 and received.find(b"\r\n", 2, line_bytes + 4) < 0:
            raise LimitRequestLine(len(received), line_bytes)
        if len(received) > self._head_bytes:
            raise LimitRequestHeaders(f"the head is longer than {self._head_bytes} bytes")

    def _read_ordinary(self, text: bytes, peer: Peer) -> Head | None:
        """Read an ordinary head; return None if any part of it is not ordinary."""
        parsed = self._known_heads.get(text) or self._parse_ordinary(text)
        if parsed is None:
            return None
        environ = {**peer.environ, **parsed.fields}
        if parsed.schemes and peer.trusted:
            if len(parsed.schemes) > 1:
                return None
            environ["wsgi.url_scheme"] = parsed.schemes[0]
        if "SERVER_NAME" not in environ:
            _set_server_name(environ)
        if peer.proxy is not None:
            environ.update(peer.proxy)
        return Head(environ, len(text), parsed.length_bytes, parsed.keep_alive)

    def _parse_ordinary(self, text: bytes) -> _OrdinaryHead | None:
        match = ORDINARY_HEAD.fullmatch(text)
        if match is None or len(text) > self._ordinary_bytes:
            return None
        method, target, minor, section = match.groups()
        lines = section.split(b"\r\n")
        lines.pop()
        if not ORIGIN_FORM.fullmatch(target) or method == b"CONNECT" or len(lines) > self._ordinary_fields:
            return None
        uri = str(target, "latin-1")
        path, _, query = uri.partition("?")
        fields = {
            "REQUEST_METHOD": str(method, "latin-1"),
            "PATH_INFO": util.unquote_to_wsgi_str(path),
            "QUERY_STRING": query,
            "RAW_URI": uri,
            "SERVER_PROTOCOL": "HTTP/1.1" if minor == b"1" else "HTTP/1.0",
        }
        for line in lines:
            name, _, value = line.partition(b":")
            key = self._keys.get(name) or self._known_key(name)
            if key in fields or key == LEFT_TO_GUNICORN:
                return None
            fields[key] = str(value.strip(b" \t"), "latin-1")
        length = fields.get("CONTENT_LENGTH", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            return None
        keep_alive = CONNECTION_OPTIONS.get(fields.get("HTTP_CONNECTION", "").lower(), minor == b"1")
        schemes = ["https" if fields[key] == secure else "http" for key, secure in self._scheme_keys if key in fields]
        parsed = _OrdinaryHead(fields, int(length), keep_alive, schemes)
        if len(text) <= KNOWN_HEAD_BYTES:
            if len(self._known_heads) >= KNOWN_HEADS:
                self._known_heads.clear()
            self._known_heads[text] = parsed
        return parsed

    def parse_by_gunicorn(self, received: bytes, peer: Peer, number: int) -> Head | None:
        """Parse any head with Gunicorn's parser; return None while it is incomplete.

        Raises:
            ParseException: an error of Gunicorn's parser.
        """
        source = IterUnreader([received])
        try:
            request = message.Request(self._python_cfg, source, peer.client, number)
        except (NoMoreData, StopIteration):
            return None
        consumed = len(received) - len(source.take_buffered())
        _, environ = wsgi.create(request, _NoSocket(), peer.client, peer.server, self._cfg)
        for key in CONNECTION_SPECIFIC:
            environ.pop(key, None)
        environ["wsgi.multithread"] = True
        if request.proxy_protocol_info:
            peer.proxy = wsgi.proxy_environ(request)
        if peer.proxy is not None:
            environ.update(peer.proxy)
        reader = request.body.reader
        length = reader.length if isinstance(reader, LengthReader) else None
        if length is None and not isinstance(reader, ChunkedReader):
            raise AssertionError("Gunicorn has a third way to frame a request's body")
        return Head(environ, consumed, length, not request.should_close(), request._expected_100_continue, request)

    def _known_key(self, name: bytes) -> str:
        upper = str(name, "latin-1").upper()
        key = LEFT_TO_GUNICORN if not upper or "_" in upper or upper in FIELDS_LEFT_TO_GUNICORN else _key(upper)
        if len(self._keys) < KNOWN_NAMES and len(name) < KNOWN_NAME_BYTES:
            self._keys[name] = key
        return key


def partial_environ(received: bytes, peer: Peer) -> Environ:
    """Return an environ from the beginning of a request that could not be parsed.

    It has `REQUEST_METHOD` and `PATH_INFO`, empty if unknown, and the header fields whose lines are complete.
    """
    method, path = METHOD.match(received), PATH.match(received)
    environ = peer.environ.copy()
    environ["REQUEST_METHOD"] = str(method[1], "latin-1") if method else ""
    environ["PATH_INFO"] = util.unquote_to_wsgi_str(str(path[1], "latin-1")) if path else ""
    section, ended, _ = received.partition(b"\r\n\r\n")
    for name, value in FIELD.findall(section + ended):
        environ.setdefault(_key(str(name, "latin-1").upper()), str(value, "latin-1"))
    return environ


def _key(upper: str) -> str:
    return {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}.get(
        upper, "HTTP_" + upper.replace("-", "_")
    )


def _set_server_name(environ: Environ) -> None:
    """Take name and port from `Host` on a Unix socket, as Gunicorn does."""
    host = environ.get("HTTP_HOST", "")
    name, colon, port = host.partition(":")
    default = {"http": "80", "https": "443"}.get(environ["wsgi.url_scheme"], "") if host else ""
    environ["SERVER_NAME"], environ["SERVER_PORT"] = name, port.partition(":")[0] if colon else default
