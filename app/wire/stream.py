"""NDJSON streams: answer lines in order while the body arrives, in bounded memory.

A line is a record or a row. The response has a line for each: its outputs, or its error with a pointer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from app.core.run import PredictionStream
from app.errors import InvalidInstances, InvalidJson, NotAcceptable, RetortError
from app.gateway.context import RequestContext
from app.server.contract import Environ, Response
from app.signature.json_values import read_json
from app.wire import body, codecs
from app.wire.codecs import NDJSON_TYPE, BodyLimits

BLOCK_LINES = 512
BLOCK_BYTES = 2**20
MAX_LINE_BYTES = 2**20
MOST_BAD_LINES = 1000
"""The stream ends after this many refused lines, with a line that says so."""

TOO_MANY_BAD_LINES = f"the stream ends here, because {MOST_BAD_LINES} lines were refused, the most that one may have"

encode_lines = msgspec.json.Encoder().encode_lines


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the request: its instance, or `wrong`, the reason why it has none."""

    number: int
    instance: Any = None
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class NdjsonStreaming:
    """The streaming of NDJSON, line by line. Safe to share between requests."""

    limits: BodyLimits

    def is_wanted(self, environ: Environ) -> bool:
        """Return whether a request is NDJSON and accepts NDJSON."""
        content_type = environ.get("CONTENT_TYPE") or ""
        if codecs.canonical(content_type.partition(";")[0]) != NDJSON_TYPE:
            return False
        try:
            return codecs.writer(environ.get("HTTP_ACCEPT"), first=NDJSON_TYPE)[0] == NDJSON_TYPE
        except NotAcceptable:  # the adapter raises it again
            return False

    def respond(self, context: RequestContext, stream: PredictionStream) -> Response:
        """Return a streamed response. An error in the first block still has its own status.

        Raises:
            UnsupportedMediaType, BodyTooLarge, NotAcceptable: the headers are refused.
        """
        environ = context.environ
        codecs.reader(environ.get("CONTENT_TYPE"), b"")
        received = _lines(body.parts(environ, self.limits.body_bytes))
        response_parts = _answers(stream, _blocks(received, min(BLOCK_LINES, stream.most_instances)))
        parts_with_error = _with_last_error(next(response_parts, b""), response_parts)
        parts, headers = body.compress_parts(parts_with_error, environ.get("HTTP_ACCEPT_ENCODING", ""))
        return Response(200, [("Content-Type", NDJSON_TYPE), *headers], iter(parts))


def _with_last_error(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the parts of the response. If the rest of the body fails, its error becomes the last line."""
    if first:
        yield first
    try:
        yield from rest
    except RetortError as error:
        yield encode_lines([{"error": {"detail": error.detail}}])


def _lines(parts: Iterable[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield each line with its number from 1; None instead of a line that is too long."""
    number, pending, too_long = 1, b"", False
    for part in parts:
        begins = 0
        while (ends := part.find(b"\n", begins)) >= 0:  # not split(): a part may have 100,000 lines
            line, begins = pending + part[begins:ends], ends + 1
            yield number, None if too_long or len(line) > MAX_LINE_BYTES else line
            number, pending, too_long = number + 1, b"", False
        pending += part[begins:]
        if too_long or len(pending) > MAX_LINE_BYTES:
            pending, too_long = b"", True
    if too_long or pending:
        yield number, None if too_long else pending


def _blocks(lines: Iterable[tuple[int, bytes | None]], most: int) -> Iterator[list[_Line]]:
    """Yield blocks of lines to answer together, without blank lines."""
    block: list[_Line] = []
    size_bytes = 0
    for number, line in lines:
        if line is not None and not line.strip():
            continue
        block.append(_read(number, line))
        size_bytes += len(line or b"")
        if len(block) == most or size_bytes > BLOCK_BYTES:
            yield block
            block, size_bytes = [], 0
    if block:
        yield block


def _read(number: int, line: bytes | None) -> _Line:
    if line is None:
        return _Line(number, wrong=f"the line is longer than {MAX_LINE_BYTES} bytes, the most that one may have")
    try:
        return _Line(number, read_json(line))
    except InvalidJson as error:
        place = "" if error.column is None else f" (column {error.column})"
        return _Line(number, wrong=f"the line is not valid JSON: {error.reason}{place}")


def _answers(stream: PredictionStream, blocks: Iterable[list[_Line]]) -> Iterator[bytes]:
    refused = 0
    for block in blocks:
        part, refused = _answer(stream, block, refused)
        # Free the block while the client reads: the garbage collector would stop all threads to traverse it.
        block.clear()
        yield part
        if refused == MOST_BAD_LINES:
            return


def _answer(stream: PredictionStream, block: Sequence[_Line], refused: int) -> tuple[bytes, int]:
    """Return the response to a block, and the number of lines that the stream has refused so far."""
    partial = stream.predict([line.instance for line in block if not line.wrong])
    values = partial.answer.values()
    rows = zip(*values.values(), strict=True)
    position = 0
    response_lines: list[dict[str, Any]] = []
    for line in block:
        if line.wrong:
            response_lines.append({"error": {"line": line.number, "detail": line.wrong}})
            refused += 1
        else:
            error, warnings = partial.refused.get(position), partial.warnings.get(position)
            position += 1
            if error is None:
                outputs = dict(zip(values, next(rows), strict=True))
                response_lines.append(outputs | ({} if warnings is None else warnings.document()))
            else:
                response_lines.append(_error(line.number, error))
                refused += 1
        if refused == MOST_BAD_LINES:
            response_lines.append({"error": {"line": line.number, "detail": TOO_MANY_BAD_LINES}})
            break
    return encode_lines(response_lines), refused


def _error(number: int, error: RetortError) -> dict[str, Any]:
    facts: dict[str, Any] = {"line": number, "detail": error.detail}
    if isinstance(error, InvalidInstances):
        facts["errors"] = [each.document() for each in error.errors]
    return {"error": facts}
