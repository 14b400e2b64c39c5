"""`multipart/form-data` (RFC 7578): one record as fields, or one file part of another media type.

A file part named like a feature is the value of that feature: bytes, or JSON if its media type is JSON. Any other file
is decoded by its media type. If the media type is generic, the extension decides: browsers on Windows send a CSV file
as `application/vnd.ms-excel`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData, Preamble

from app.errors import BodyTooLarge, FieldError, InvalidBody, TooManyValues
from app.signature.cells import read_untyped, reader_of
from app.signature.field_errors import escaped, refuse, refused, shown, some
from app.wire.codecs.codec import MAX_UNKNOWN_COLUMNS, Codec, Reading, Rows, check_records, untyped_records

FORM = "multipart/form-data"
MAX_PART_HEAD_BYTES = 16_384
MAX_FIELD_BYTES = 2**23
"""Limit of a text field. A character may take four bytes in memory."""
MAX_BOUNDARY_CHARS = 200
"""RFC 2046 allows 70, but some clients, such as Werkzeug, send slightly longer ones."""
ReaderOf = Callable[[str | None, bytes], tuple[Codec, Mapping[str, str]]]
GENERIC_TYPES = ("", "application/octet-stream", "application/vnd.ms-excel", "application/zip", "text/plain")
"""Generic media types that clients also send for tables. The extension of the file name then decides."""
TYPE_OF_EXTENSION = {
    "arrow": "application/vnd.apache.arrow.stream",
    "arrows": "application/vnd.apache.arrow.stream",
    "csv": "text/csv",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "msgpack": "application/msgpack",
    "ndjson": "application/x-ndjson",
    "npy": "application/x-npy",
    "npz": "application/x-npz",
    "parquet": "application/vnd.apache.parquet",
}


@dataclass(slots=True)
class _Part:
    """A part of a form. A file has a `file_name`, which may be empty; a field has none."""

    name: str
    media_type: str | None
    file_name: str | None
    content: bytearray = field(default_factory=bytearray)

    @property
    def stated_type(self) -> str:
        """The media type of the part without parameters; empty if the part has none."""
        return (self.media_type or "").partition(";")[0].strip().lower()

    @property
    def table_type(self) -> str:
        """The media type of a table in a file; for a generic type, by the extension; empty if both are unknown."""
        ending = (self.file_name or "").rpartition(".")[2].lower()
        stated = self.media_type or ""
        return TYPE_OF_EXTENSION.get(ending, stated) if self.stated_type in GENERIC_TYPES else stated


class Multipart(Codec):
    """Codec of forms, for requests only."""

    writes = False

    def __init__(self, reader_of_part: ReaderOf, is_read: Callable[[str], bool]) -> None:
        self._reader_of_part = reader_of_part
        self._is_read = is_read

    def decode(self, body: bytes, reading: Reading) -> Any:
        """Return one record of the fields, read by the kinds of the inputs, or the decoded content of the only file.

        Raises:
            InvalidBody: the body is not a complete form, or contains another form.
            UnsupportedMediaType: no codec can read the file.
            InvalidInstances: a field is duplicate or beside a file, or a file is neither a field nor a table.
        """
        parts = _parts(body, reading)
        readers = {spec.name: reader_of(spec) for spec in reading.signature.inputs}
        files = [part for part in parts if part.file_name is not None and part.name not in readers]
        refuse(self._unknown_files(files, reading))
        if files:
            if len(parts) > 1:
                raise refused("#", "must be one file, or the fields of one record, not both")
            return self._file(files[0], reading)
        duplicates = (name for name, times in Counter(part.name for part in parts).items() if times > 1)
        refuse(FieldError(f"#/{escaped(name)}", "stands there more than once") for name in duplicates)
        record: dict[str, Any] = {}
        for part in parts:
            if (
                part.file_name is not None and part.stated_type != "application/json"
            ):  # browsers also send JSON as a file
                record[part.name] = bytes(part.content) or None
            else:
                record[part.name] = readers.get(part.name, read_untyped)(_text(part))
        check_records([*record], reading.signature, "#")
        return Rows(untyped_records([record], [*record], reading.signature), single=True)

    def _unknown_files(self, files: Sequence[_Part], reading: Reading) -> Iterator[FieldError]:
        """Yield an error for each file that is neither a table nor named like a feature, such as an image."""
        fields, endings = some(reading.signature.names), ", ".join(TYPE_OF_EXTENSION)
        for part in files:
            is_typed = part.table_type or "." in (part.file_name or "")
            if is_typed and not self._is_read(part.table_type):
                allowed = f"the fields are: {fields}; a file under another name must be a table ({endings})"
                this_file = f"this one is {shown(part.file_name)!r} of type {shown(part.media_type or '')!r}"
                yield FieldError(f"#/{escaped(part.name)}", f"is not a field of this model; {allowed}, and {this_file}")

    def _file(self, part: _Part, reading: Reading) -> Any:
        content = bytes(part.content)
        codec, parameters = self._reader_of_part(part.table_type, content)
        if codec is self:
            raise InvalidBody(FORM, "a part is a form itself")
        return codec.decode(content, Reading(reading.signature, reading.limits, parameters))


def _parts(body: bytes, reading: Reading) -> list[_Part]:
    boundary = reading.parameters.get("boundary", "")
    if not 0 < len(boundary) <= MAX_BOUNDARY_CHARS or not boundary.isascii():
        raise InvalidBody(FORM, f"the media type needs a boundary of 1 to {MAX_BOUNDARY_CHARS} characters of ASCII")
    most = len(reading.signature.inputs) + MAX_UNKNOWN_COLUMNS
    _check_heads(body, b"--" + boundary.encode(), most, reading.limits.max_values)
    decoder = MultipartDecoder(boundary.encode(), reading.limits.body_bytes + 1, max_parts=most)
    parts: list[_Part] = []
    try:
        decoder.receive_data(body)
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            _take(event, parts)
    except RequestEntityTooLarge:
        if len(parts) >= most:
            raise refused("#", f"has more than {most} parts") from None
        raise BodyTooLarge(reading.limits.body_bytes) from None
    except (ValueError, LookupError, UnicodeError):
        raise InvalidBody(FORM, "a part of it has no end, or no name, or the final boundary is missing") from None
    return parts


def _check_heads(body: bytes, delimiter: bytes, most: int, most_values: int) -> None:
    """Refuse too many parts and too long headers before Werkzeug parses them, which would be slow."""
    if len(body) > most_values and (lines := body.count(b"\n")) > most_values:  # Werkzeug checks each line end
        raise TooManyValues(lines, most_values, "lines")
    at = body.find(delimiter)
    if at < 0:
        raise InvalidBody(FORM, "its boundary does not stand in it")
    if body.count(delimiter) > most + 1:
        raise refused("#", f"has more than {most} parts")
    while at >= 0 and body[at + len(delimiter) : at + len(delimiter) + 2] != b"--":
        head = body[at : at + MAX_PART_HEAD_BYTES]
        if len(head) == MAX_PART_HEAD_BYTES and b"\r\n\r\n" not in head and b"\n\n" not in head:
            raise InvalidBody(FORM, f"the header of a part is longer than {MAX_PART_HEAD_BYTES} bytes")
        at = body.find(delimiter, at + len(delimiter))


def _take(event: Event, parts: list[_Part]) -> None:
    if isinstance(event, Field | File):
        if not isinstance(event.name, str):  # Werkzeug's annotation is wrong: it may be None
            raise ValueError
        file_name = (event.filename or "") if isinstance(event, File) else None
        parts.append(_Part(event.name, event.headers.get("Content-Type"), file_name))
    elif isinstance(event, Data):
        parts[-1].content += event.data
    elif not isinstance(event, Preamble):
        raise ValueError


def _text(part: _Part) -> str:
    if len(part.content) > MAX_FIELD_BYTES:
        detail = f"is longer than {MAX_FIELD_BYTES} bytes; a longer one can be sent as a file, or in JSON"
        raise refused(f"#/{escaped(part.name)}", detail)
    try:
        return part.content.decode("utf-8")
    except UnicodeDecodeError:
        raise refused(f"#/{escaped(part.name)}", "is not UTF-8") from None
