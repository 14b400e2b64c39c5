"""Read the order in `POST /jobs`: an uploaded file and fields, or JSON with URLs."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import msgspec
from flask import Request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from app.errors import (
    BodyTooLarge,
    InvalidBody,
    InvalidJson,
    MalformedRequest,
    ScoringRefused,
    UnsupportedMediaType,
    UploadTooLarge,
)
from app.jobs.formats import format_of
from app.jobs.job_urls import require_permitted
from app.jobs.locations import is_url
from app.jobs.service import Order
from app.settings import Settings
from app.wire import body
from app.wire.codecs import JSON_TYPE
from app.wire.jobs.documents import OUTPUTS, TYPES, format_of_type, is_format

FORM_TYPE = "multipart/form-data"
FILE = "file"
LONGEST_JSON_BYTES = 2**20
LONGEST_FIELDS_BYTES = 2**18
MOST_PARTS = 1000
FIELDS = ("model", "version", "output", "keep", "max_rejects")
JSON_MEMBERS = ("input", *FIELDS)
MOST_REJECTS = 2**53
NAME_CHARS = 200


class StoredFile(io.BufferedWriter):
    """A file that hashes its bytes and counts its lines while it is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self.path = path
        self.lines = 0
        self.hash = hashlib.sha256()

    def write(self, part: Any) -> int:
        """Write bytes, and update the hash and the number of lines."""
        self.hash.update(part)
        self.lines += bytes(part).count(b"\n")
        return super().write(part)


@dataclass(frozen=True, slots=True)
class OrderReader:
    """The reader of requests for jobs."""

    settings: Settings

    def read(self, request: Request, folder: Path) -> Order:
        """Store the file of a request in a folder, and return the order.

        Raises:
            UnsupportedMediaType: the body is neither a table nor a form nor JSON.
            InvalidJson, InvalidBody, MalformedRequest, BodyTooLarge, UploadTooLarge: the body cannot be read.
            UrlNotPermitted: a URL is not allowed.
            ScoringRefused: a format is unknown, or needs a library that is not installed.
        """
        media_type, options = parse_options_header(request.headers.get("Content-Type", ""))
        if media_type == JSON_TYPE:
            return self._from_json(body.read(request.environ, LONGEST_JSON_BYTES))
        if media_type == FORM_TYPE:
            return self._from_form(request, options.get("boundary", ""), folder)
        form = format_of_type(media_type)
        if form is None:
            raise UnsupportedMediaType(media_type or "(none)", (*TYPES, FORM_TYPE, JSON_TYPE))
        stored = StoredFile(folder / f"input.{format_of(f'input.{form}').name}")
        with stored:
            for part in self._parts(request):
                stored.write(part)
        return self._order(_fields(request.args), stored, "")

    def _parts(self, request: Request) -> Iterator[bytes]:
        limit_bytes = min(self.settings.jobs_upload_bytes, self.settings.jobs_bytes)
        try:
            yield from body.parts(request.environ, limit_bytes)
        except BodyTooLarge:
            raise UploadTooLarge(limit_bytes) from None

    def _from_form(self, request: Request, boundary: str, folder: Path) -> Order:
        files: list[tuple[str, StoredFile]] = []

        def make(
            total_content_length: int | None,
            content_type: str | None,
            filename: str | None,
            content_length: int | None = None,
        ) -> IO[bytes]:
            if files:
                raise MalformedRequest(FILE, "is there twice: a job scores one file")
            name = (filename or "")[-NAME_CHARS:].replace("\0", "")
            stored = StoredFile(folder / f"input{_suffix(name, content_type or '')}")
            files.append((name, stored))
            return stored

        parts = self._parts(request)
        received: Any = SimpleNamespace(read=lambda size: next(parts, b""))  # the only method that the parser calls
        parser = MultiPartParser(make, LONGEST_FIELDS_BYTES, max_form_parts=MOST_PARTS)
        try:
            fields, _ = parser.parse(received, boundary.encode("latin-1", "replace"), request.content_length)
        except ValueError as error:
            raise InvalidBody(FORM_TYPE, str(error) or "its parts cannot be told apart") from None
        except RequestEntityTooLarge:
            raise MalformedRequest("the form", f"has fields of more than {LONGEST_FIELDS_BYTES} bytes") from None
        finally:
            for _, stored in files:
                stored.close()
        if not files:
            detail = f"is missing: send the table as a file in a field of the form, {FILE}=@rows.csv"
            raise MalformedRequest(FILE, detail)
        name, stored = files[0]
        return self._order(_fields(fields), stored, name)

    def _from_json(self, content: bytes) -> Order:
        try:
            order = msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidJson(str(error), None, None) from None
        if not isinstance(order, dict):
            raise MalformedRequest("the body", f"must be an object with: {', '.join(JSON_MEMBERS)}")
        _require_known(order, JSON_MEMBERS)
        source = order.get("input")
        if not isinstance(source, str) or not is_url(source):
            raise MalformedRequest("input", "must be a URL, such as s3://bucket/rows.csv; to send a file, upload it")
        require_permitted("input", source, self.settings.jobs_urls)
        form = format_of(source.partition("?")[0]).name
        fields = {name: value for name, value in order.items() if value is not None and name != "input"}
        if isinstance(fields.get("version"), int):
            fields["version"] = str(fields["version"])
        keep = fields.get("keep", [])
        if not isinstance(keep, list) or not all(isinstance(name, str) for name in keep):
            raise MalformedRequest("keep", "must be a list of names of columns")
        return Order(
            _text(fields, "model"),
            _text(fields, "version") or None,
            source,
            source,
            "",
            self._output(_text(fields, "output"), form),
            tuple(_without_nul("keep", column) for column in keep),
            _rejects(fields.get("max_rejects")),
        )

    def _order(self, fields: Mapping[str, str], stored: StoredFile, name: str) -> Order:
        form = format_of(stored.path.name)
        return Order(
            fields.get("model", ""),
            fields.get("version") or None,
            stored.path.name,
            name or stored.path.name,
            stored.hash.hexdigest(),
            self._output(fields.get("output", ""), form.name),
            tuple(word.strip() for word in fields.get("keep", "").split(",") if word.strip()),
            _rejects(fields.get("max_rejects") or None),
            stored.lines if form.is_text and not form.coding else 0,
        )

    def _output(self, output: str, form: str) -> str:
        """Return the URL of the result, or its file name."""
        if is_url(output):
            require_permitted("output", output, self.settings.jobs_urls)
            if output.partition("://")[0] in ("http", "https"):
                raise MalformedRequest("output", "must be a URL of object storage (s3://, gs://, az://), or a format")
            if output.endswith("/"):
                raise MalformedRequest("output", "must be the URL of one object, without a slash at its end")
            format_of(output)
            return output
        if output and not is_format(output):
            detail = f"must be a format ({', '.join(OUTPUTS)}) or an allowed URL, not {output[:60]!r}"
            raise MalformedRequest("output", detail)
        name = f"result.{output or form}"
        format_of(name)
        return name


def _suffix(name: str, media_type: str) -> str:
    """Return the suffix of an uploaded file, from its name or else from its media type."""
    try:
        return format_of(name).suffix
    except ScoringRefused:
        form = format_of_type(parse_options_header(media_type)[0])
        if form is None and not name:  # a browser sends this if no file was chosen
            raise MalformedRequest(FILE, "has no name, which would tell its format: choose a file") from None
        if form is None:
            raise
        return format_of(f"input.{form}").suffix


def _fields(values: MultiDict[str, str]) -> dict[str, str]:
    """Return the fields of a form or of a query. Only `keep` may be repeated."""
    _require_known(values, FIELDS)
    for name in FIELDS:
        if name != "keep" and len(values.getlist(name)) > 1:
            raise MalformedRequest(name, "is there twice")
    return {name: _without_nul(name, ",".join(values.getlist(name))) for name in values}


def _require_known(names: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    for name in names:
        if name not in allowed:
            raise MalformedRequest(
                str(name)[:60] or "a field", f"is no field of a job; there are: {', '.join(allowed)}"
            )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise MalformedRequest(name, "must be a text")
    return _without_nul(name, value)


def _without_nul(name: str, text: str) -> str:
    """Return a text, and refuse the character NUL, which PostgreSQL cannot store."""
    if "\0" in text:
        raise MalformedRequest(name, "must not have the character NUL")
    return text


def _rejects(value: Any) -> int | None:
    """Return the field `max_rejects`: how many rows the job may reject."""
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 17:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_REJECTS:
        raise MalformedRequest("max_rejects", "must be a whole number, 0 or more")
    return value
