"""Codecs: each decodes and encodes one media type. To add one, write its module and name it in `CODECS`.

Every codec decodes to the same plain values, which the same schema validates. So the same rows get the same response,
or the same 422, in every media type. A codec imports a heavy library when it is first used.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from app.errors import NotAcceptable, UnsupportedMediaType
from app.signature.json_values import BOM
from app.wire.codecs.arrow import ArrowStream, Parquet
from app.wire.codecs.codec import BodyLimits, Codec, Reading, Rows
from app.wire.codecs.csv import Csv
from app.wire.codecs.json import JSON, NdJson
from app.wire.codecs.msgpack import MessagePack
from app.wire.codecs.multipart import Multipart
from app.wire.codecs.npy import Npy, Npz

__all__ = ["CODECS", "JSON", "JSON_TYPE", "NDJSON_TYPE", "BodyLimits", "Codec", "Reading", "Rows", "reader", "writer"]

FORM = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"
NDJSON_TYPE = "application/x-ndjson"

CODECS: dict[str, Codec] = {
    JSON_TYPE: JSON,
    NDJSON_TYPE: NdJson(),
    "text/csv": Csv(),
    "application/vnd.apache.parquet": Parquet(),
    "application/vnd.apache.arrow.stream": ArrowStream(),
    "application/x-npy": Npy(),
    "application/x-npz": Npz(),
    "application/msgpack": MessagePack(),
}
"""Codecs by media type. `Multipart` is added below, because it needs `reader` for its parts."""
ALIASES = {
    "application/jsonl": NDJSON_TYPE,
    "application/jsonlines": NDJSON_TYPE,
    "application/ndjson": NDJSON_TYPE,
    "application/x-jsonlines": NDJSON_TYPE,
    "application/csv": "text/csv",
    "application/parquet": "application/vnd.apache.parquet",
    "application/x-parquet": "application/vnd.apache.parquet",
    "application/npy": "application/x-npy",
    "application/npz": "application/x-npz",
    "application/vnd.msgpack": "application/msgpack",
    "application/x-msgpack": "application/msgpack",
}

PLAIN_JSON: tuple[Codec, Mapping[str, str]] = (JSON, {})


def reader(content_type: str | None, body: bytes) -> tuple[Codec, Mapping[str, str]]:
    """Return the codec for a request body, and the parameters of its media type.

    A body without a Content-Type is read as JSON. So is a body of curl's default type, if it looks like JSON.

    Raises:
        UnsupportedMediaType: no codec reads the body.
    """
    if not content_type or content_type == JSON_TYPE:
        return PLAIN_JSON
    media_type, parameters = parse_options_header(content_type)
    media_type = canonical(media_type)
    charset = parameters.get("charset", "utf-8").lower()
    if media_type == FORM and _looks_like_json(body):
        return PLAIN_JSON
    if media_type not in CODECS or charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(content_type[:100], _available_types(writing=False))
    codec = CODECS[media_type]
    if not _is_installed(codec):
        because = f"this server lacks {codec.needs}: its operator can pip install {codec.needs}"
        raise UnsupportedMediaType(content_type[:100], _available_types(writing=False), because=because)
    return codec, parameters


def canonical(media_type: str) -> str:
    """Return the name of a media type in `CODECS`; an unknown media type in lower case."""
    lower = media_type.strip().lower()
    return ALIASES.get(lower, lower)


def _is_installed(codec: Codec) -> bool:
    try:
        return not codec.needs or importlib.util.find_spec(codec.needs) is not None
    except ValueError:  # sys.modules blocks the import
        return False


def _available_types(writing: bool) -> list[str]:
    return [name for name, codec in CODECS.items() if _is_installed(codec) and (codec.writes or not writing)]


def _looks_like_json(body: bytes) -> bool:
    # A real form begins with the name of a field, which rarely looks like JSON.
    start = body.removeprefix(BOM).lstrip()[:1]
    return start in b'{["-0123456789' or body.strip() in (b"null", b"true", b"false", b"NaN")


def writer(accept: str | None, first: str = JSON_TYPE) -> tuple[str, Codec]:
    """Return the media type and codec for a response by the client's Accept (RFC 9110 section 12.5.1).

    If several types have the highest quality, `first` wins.

    Raises:
        NotAcceptable: no codec writes any of the allowed types.
    """
    if accept is None or accept in ("", "*/*", first):
        return first, CODECS[first]
    # Ignore parameters such as a charset.
    accepted = parse_accept_header(accept, MIMEAccept)
    ranges = MIMEAccept((canonical(media_type.partition(";")[0]), quality) for media_type, quality in accepted)
    available = _available_types(writing=True)
    best = max([first, *available], key=ranges.quality)
    if ranges.quality(best) <= 0:
        raise NotAcceptable(accept[:100], available)
    return best, CODECS[best]


def _is_read(content_type: str) -> bool:
    return canonical(content_type.partition(";")[0]) in (FORM, *CODECS)


CODECS["multipart/form-data"] = Multipart(reader, _is_read)
