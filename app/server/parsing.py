"""From the bytes of a head to a WSGI environ: Gunicorn's parsers, Gunicorn's header policy.

An ordinary request (nearly all of them) takes the short way: a regular expression parses it, within Gunicorn's limits,
and the environ is put together here. Whatever is not ordinary in any
way (an error, an underscore in a name, a repeated field, `Expect`, `Transfer-Encoding`, the PROXY protocol, an absolute
target, ...) takes the long way: Gunicorn's `Request`, with its Python parser, decides on it and its `wsgi.create` makes
the environ, so there is no second opinion that could differ.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gunicorn import util
from gunicorn.http import message, wsgi
from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, NoMoreData
from gunicorn.http.unreader import IterUnreader

# RFC 9112 section 3.2.1, origin-form; `//`, `#` and anything else take the long way.
ORIGIN_FORM = re.compile(rb"/(?!/)[!-\"$-~]*")
ORDINARY_HEAD = re.compile(
    rb"([A-Z]{3,20}+) (/[!-~]*+) HTTP/1\.([01])\r\n"
    rb"((?:[!#$%&'*+\-.^`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+\r\n)*+)\r\n"
)
"""RFC 9112 section 3 and RFC 9110 section 5.5, less whatever Gunicorn might see otherwise."""
Parsed = tuple[bytes, bytes, bool, Iterable[tuple[bytes, bytes]], int]
"""Method, target, whether it is HTTP/1.1 and not 1.0, fields, and the length of the head."""
KNOWN_LIMIT = 2048
"""How many field names and targets are remembered."""
KNOWN_TARGET_BYTES = 256
LONG_WAY = ""
"""The environ key of field names that only Gunicorn itself judges."""
LONG_WAY_FIELDS = frozenset({"EXPECT", "TRANSFER-ENCODING"})
BEGUN = re.compile(rb"([!-~]+) (/[^\s?]*)[ ?]")
FIELD = re.compile(rb"\r\n([A-Za-z0-9-]+):([^\r\n]*)(?=\r\n)")
GLIMPSE_BYTES = 64 * 1024
CONNECTION_SPECIFIC = ("wsgi.early_hints", "gunicorn.socket")
"""What Gunicorn's environ says of a socket that only the loop may touch."""


class Head:
    """One request's head. `length_bytes` is that of its body, None where it is chunked."""

    __slots__ = ("consumed", "environ", "expects_continue", "keep_alive", "length_bytes", "request")

    def __init__(self, environ: dict[str, Any], consumed: int, length_bytes: int | None, keep_alive: bool) -> None:
        self.environ = environ
        self.consumed = consumed
        self.length_bytes = length_bytes
        self.keep_alive = keep_alive
        self.expects_continue = False
        self.request: Any = None  # Gunicorn's, where it went the long way


@dataclass(slots=True)
class Peer:
    """What is known of a connection before it says anything. `environ` is what each of its requests starts from."""

    client: Any
    server: Any
    trusted: bool
    environ: dict[str, Any]
    proxy: dict[str, str] | None = None


class _NoSocket:
    """Stands where Gunicorn writes `100 Continue`; the connection does that itself."""

    def send(self, content: bytes) -> int:
        return len(content)


class _WithPythonParser:
    """A configuration that asks for Gunicorn's Python parser, the stricter of the two."""

    http_parser = "python"

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cfg, name)


class HeadReader:
    """Reads heads by one Gunicorn configuration. Belongs to the loop's thread."""

    def __init__(self, cfg: Any, head_bytes: int) -> None:
        self._cfg = cfg
        self._reference = _WithPythonParser(cfg)
        self._head_bytes = head_bytes
        self._line_bytes = _line_limit(cfg)
        self._long_way_first = cfg.proxy_protocol != "off"
        self._base = wsgi.base_environ(cfg) | {"wsgi.multithread": True, "wsgi.url_scheme": "http"}
        self._scheme_keys = [(_key(name), value) for name, value in cfg.secure_scheme_headers.items()]
        self._keys: dict[bytes, str] = {}
        self._targets: dict[bytes, tuple[str, str, str]] = {}
        # What these change is Gunicorn's business alone.
        self._has_short_way = not (
            cfg.casefold_http_method
            or cfg.permit_obsolete_folding
            or cfg.strip_header_spaces
            or os.environ.get("SCRIPT_NAME")
        )
        fields = cfg.limit_request_fields
        field_bytes = cfg.limit_request_field_size
        self._limits = {
            "limit_request_line": self._line_bytes or 2**20,
            "limit_request_fields": fields if 0 < fields <= message.MAX_HEADERS else message.MAX_HEADERS,
            "limit_request_field_size": field_bytes if field_bytes > 0 else message.DEFAULT_MAX_HEADERFIELD_SIZE,
        }

    def peer(self, client: Any, server: Any) -> Peer:
        """What every request of a connection between these two addresses starts from."""
        cfg = self._cfg
        trusted = not isinstance(client, tuple) or "*" in cfg.forwarded_allow_ips
        trusted = trusted or bool(message._ip_in_allow_list(client[0], (), cfg.forwarded_allow_networks()))
        environ = self._base.copy()
        if isinstance(client, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
        else:
            environ["REMOTE_ADDR"] = client.decode() if isinstance(client, bytes) else client
        if isinstance(server, tuple):
            environ["SERVER_NAME"], environ["SERVER_PORT"] = server[0], str(server[1])
        environ["SCRIPT_NAME"] = ""
        return Peer(client, server, trusted, environ)

    def read(self, received: bytes, seen_bytes: int, peer: Peer, number: int) -> Head | None:
        """The head at the beginning of `received`, or None while it is incomplete.

        `seen_bytes` of it were there the last time; the request is the connection's `number`th, from 1.

        Raises:
            ParseException: one of Gunicorn's; what follows on the connection must not be read.
        """
        if not self._has_short_way or (number == 1 and self._long_way_first):
            head = None
            if _worth_another_look(received, seen_bytes, self._line_bytes):
                head = self._long_way(received, peer, number)
        elif received.find(b"\r\n\r\n", max(0, seen_bytes - 3)) >= 0:
            parsed = _match(received, self._limits)
            head = (parsed and self._short_way(parsed, received, peer)) or self._long_way(received, peer, number)
        elif received.count(b"\n") != received.count(b"\r\n"):
            head = self._long_way(received, peer, number)  # a bare line feed: it is refused before the end
        else:
            head = None
        if head is None:
            self._check_size(received)
        elif head.consumed > self._head_bytes:
            raise LimitRequestHeaders(f"the head is longer than {self._head_bytes} bytes")
        return head

    def judge(self, received: bytes, peer: Peer, number: int) -> None:
        """Says of a head that stays incomplete whether what there is of it is valid.

        Raises:
            ParseException: one of Gunicorn's.
        """
        self._long_way(received, peer, number)

    def _check_size(self, received: bytes) -> None:
        """Refuses what is incomplete and already too long."""
        line_bytes = self._line_bytes
        if len(received) > line_bytes + 2 > 2 and received.find(b"\r\n", 2, line_bytes + 4) < 0:
            raise LimitRequestLine(len(received), line_bytes)
        if len(received) > self._head_bytes:
            raise LimitRequestHeaders(f"the head is longer than {self._head_bytes} bytes")

    def _short_way(self, parsed: Parsed, received: bytes, peer: Peer) -> Head | None:
        """None where anything about the request is not ordinary."""
        method_bytes, target, version_1_1, fields, consumed = parsed
        path, query, uri = self._targets.get(target) or self._target(target)
        method = str(method_bytes, "latin-1")
        if not uri or method == "CONNECT":
            return None
        environ = peer.environ.copy()
        environ["REQUEST_METHOD"] = method
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = query
        environ["RAW_URI"] = uri
        environ["SERVER_PROTOCOL"] = "HTTP/1.1" if version_1_1 else "HTTP/1.0"
        keys = self._keys
        for name, value in fields:
            key = keys.get(name)
            if key is None:
                key = self._known(name)
            if key in environ or key == LONG_WAY:
                return None
            environ[key] = str(value, "latin-1")
        return self._framed(environ, consumed, version_1_1, peer)

    def _framed(self, environ: dict[str, Any], consumed: int, version_1_1: bool, peer: Peer) -> Head | None:
        if peer.trusted:
            schemes = 0
            for key, value in self._scheme_keys:
                if key in environ:
                    schemes += 1
                    environ["wsgi.url_scheme"] = "https" if environ[key] == value else "http"
            if schemes > 1:
                return None
        if "SERVER_NAME" not in environ:
            _name_server(environ)
        length = environ.get("CONTENT_LENGTH", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            return None
        connection = environ.get("HTTP_CONNECTION")
        keep_alive = version_1_1
        if connection is not None:
            connection = connection.lower()
            if connection == "close":
                keep_alive = False
            elif connection == "keep-alive":
                keep_alive = True
        if peer.proxy is not None:
            environ.update(peer.proxy)
        return Head(environ, consumed, int(length), keep_alive)

    def _long_way(self, received: bytes, peer: Peer, number: int) -> Head | None:
        source = IterUnreader([received])
        try:
            request = message.Request(self._reference, source, peer.client, number)
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
        head = Head(environ, consumed, length, not request.should_close())
        head.expects_continue = request._expected_100_continue
        head.request = request
        return head

    def _known(self, name: bytes) -> str:
        upper = str(name, "latin-1").upper()
        key = LONG_WAY if not upper or "_" in upper or upper in LONG_WAY_FIELDS else _key(upper)
        if len(self._keys) < KNOWN_LIMIT and len(name) < KNOWN_TARGET_BYTES:
            self._keys[name] = key
        return key

    def _target(self, target: bytes) -> tuple[str, str, str]:
        """Path, query and the target itself; three empty strings where it is not ordinary."""
        if not ORIGIN_FORM.fullmatch(target):
            return "", "", ""
        uri = str(target, "latin-1")
        path, _, query = uri.partition("?")
        parts = (util.unquote_to_wsgi_str(path), query, uri)
        if len(target) < KNOWN_TARGET_BYTES:
            if len(self._targets) >= KNOWN_LIMIT:
                self._targets.clear()
            self._targets[target] = parts
        return parts


def partial_environ(received: bytes) -> dict[str, Any]:
    """Return what can be told of a head that was never parsed: method, path, and the fields that arrived.

    It is for a refusal, which goes out in the form of its path and with the headers of its origin.
    """
    begun = BEGUN.match(received)
    method, path = (begun[1].decode("latin-1"), begun[2].decode("latin-1")) if begun else ("", "")
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path}
    for name, value in FIELD.findall(received[:GLIMPSE_BYTES]):
        environ.setdefault(_key(name.decode("latin-1").upper()), value.strip().decode("latin-1"))
    return environ


def trailers(request: Any, section: bytes) -> Sequence[tuple[str, str]]:
    """Judges the trailer section (without the empty line that ends it) of a chunked body, as Gunicorn does."""
    fields: Sequence[tuple[str, str]] = request.parse_headers(section, from_trailer=True)
    return fields


def _match(received: bytes, limits: Mapping[str, int]) -> Parsed | None:
    """The parts of a head that is plainly well formed and within the limits."""
    match = ORDINARY_HEAD.match(received)
    if match is None:
        return None
    method, target, minor, section = match.groups()
    lines = section.split(b"\r\n")
    lines.pop()
    if (
        match.end() > min(limits["limit_request_line"], limits["limit_request_field_size"])
        or len(lines) > limits["limit_request_fields"]
    ):
        return None
    fields = []
    for line in lines:
        name, _, value = line.partition(b":")
        fields.append((name, value.strip(b" \t")))
    return method, target, minor == b"1", fields, match.end()


def _key(upper: str) -> str:
    return {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}.get(
        upper, "HTTP_" + upper.replace("-", "_")
    )


def _line_limit(cfg: Any) -> int:
    """The longest request line; 0 is none."""
    limit: int = cfg.limit_request_line
    return message.MAX_REQUEST_LINE if limit < 0 or limit >= message.MAX_REQUEST_LINE else limit


def _worth_another_look(received: bytes, seen_bytes: int, line_bytes: int) -> bool:
    """Whether a parser that starts over each time could say more than the last time: only where a line has ended."""
    return b"\n" in received[max(0, seen_bytes - 1) :] or len(received) > line_bytes > 0 or not seen_bytes


def _name_server(environ: dict[str, Any]) -> None:
    """On a Unix socket the name and port come from `Host`, as Gunicorn has it."""
    host = environ.get("HTTP_HOST", "")
    name, colon, port = host.partition(":")
    default = {"http": "80", "https": "443"}.get(environ["wsgi.url_scheme"], "") if host else ""
    environ["SERVER_NAME"], environ["SERVER_PORT"] = name, port.partition(":")[0] if colon else default
