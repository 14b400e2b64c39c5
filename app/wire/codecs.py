"""Bytes to plain values and back, for one media type each; to add one, write it here and name it in `CODECS`."""

from __future__ import annotations

import json
from typing import Any, Protocol

import msgspec
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from app.errors import InvalidJson, NotAcceptable, UnsupportedMediaType

FORM = "application/x-www-form-urlencoded"
MAX_INTEGER_DIGITS = 4000
BOM = b"\xef\xbb\xbf"


class Codec(Protocol):
    """Reads and writes one media type. Stateless, safe to share between threads."""

    def decode(self, body: bytes) -> Any:
        """The document in the body, as plain values."""

    def encode(self, document: Any) -> bytes:
        """The document as a body."""


class Json:
    """JSON (RFC 8259), and bare NaN for a missing value, which pandas and MLflow write.

    A duplicate key: the last one wins. A byte order mark is skipped.
    """

    def decode(self, body: bytes) -> Any:
        """The document.

        Raises:
            InvalidJson: with the line and column of the first thing amiss.
        """
        try:
            return msgspec.json.decode(body)
        except RecursionError:
            raise InvalidJson("it is nested too deeply") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Not strict JSON: perhaps NaN, a byte order mark, a number out of range. The slow path tells, or explains.
            return _decode_leniently(body)

    def encode(self, document: Any) -> bytes:
        """Compact JSON; the document holds finite numbers only."""
        return msgspec.json.encode(document)


def _decode_leniently(body: bytes) -> Any:
    content = body.removeprefix(BOM)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(content[: error.start].decode("utf-8"))
        raise InvalidJson("it is not UTF-8", line, column) from None
    if not text.strip():
        raise InvalidJson("it is empty")
    try:
        document = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise InvalidJson("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(error.msg[:1].lower() + error.msg[1:], error.lineno, error.colno) from None
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(document)
    return document


def _refuse_lone_surrogates(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidJson("a string holds half of a surrogate pair, which is not Unicode text") from None
    except RecursionError:
        raise InvalidJson("it is nested too deeply") from None


def _integer(digits: str) -> int:
    # Python refuses to convert thousands of digits; any number this large is refused where it stands.
    return int(digits[:MAX_INTEGER_DIGITS])


def _place(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1


CODECS: dict[str, Codec] = {"application/json": Json()}
JSON = CODECS["application/json"]


def reader(content_type: str | None, body: bytes) -> Codec:
    """The codec for a request body. Without a Content-Type, or with curl's default one, a JSON body is taken as JSON.

    Raises:
        UnsupportedMediaType: no codec reads it.
    """
    if not content_type or content_type in CODECS:
        return CODECS[content_type or "application/json"]
    media_type, parameters = parse_options_header(content_type)
    media_type = media_type.lower()
    charset = parameters.get("charset", "utf-8").lower()
    if media_type == FORM and _looks_like_json(body):
        return JSON
    if media_type not in CODECS or charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(content_type[:100], [*CODECS])
    return CODECS[media_type]


def _looks_like_json(body: bytes) -> bool:
    # A form begins with a field's name; no field of a model need be called so that this is a mistake worth making.
    start = body.removeprefix(BOM).lstrip()[:1]
    return start in b'{["-0123456789' or body.strip() in (b"null", b"true", b"false", b"NaN")


def writer(accept: str | None) -> tuple[str, Codec]:
    """The media type and codec for an answer, by the client's Accept (RFC 9110 section 12.5.1).

    Raises:
        NotAcceptable: no codec writes any of the types that it allows.
    """
    if accept is None or accept in ("", "*/*", "application/json"):
        return "application/json", JSON
    wanted = parse_accept_header(accept, MIMEAccept)
    # Parameters of a type (a charset) say nothing that we could honour.
    best = MIMEAccept((media_type.partition(";")[0], quality) for media_type, quality in wanted).best_match(CODECS)
    if best is None:
        raise NotAcceptable(accept[:100], [*CODECS])
    return best, CODECS[best]
