"""Log lines: JSON for the log collectors of platforms, or readable text for a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from app.telemetry import NO_REQUEST, request_id

RED, GREEN, YELLOW, CYAN = "31", "32", "33", "36"
"""Colours of a terminal (ECMA-48, SGR)."""
LEVEL_COLOURS = {"WARNING": YELLOW, "ERROR": RED, "CRITICAL": RED}

MAX_LINE_CHARS = 65_536
"""Longer printed lines are logged in parts."""
DELETE = b"\x7f"
_encoder = msgspec.json.Encoder()
_encode_ascii = json.JSONEncoder().encode  # not json.dumps: a model may replace it


class EventRecord(logging.LogRecord):
    """A log record whose JSON line is its `event`: a structure with a member `time`, which the formatter sets.

    The method `record(created_s)` of an event returns its log record.
    """

    event: Any

    @property
    def highlight(self) -> tuple[str, str]:
        """A word of the line, and its colour on a terminal."""
        return "", ""


class JsonLines(logging.Formatter):
    """Formatter that makes one line of JSON of each event, for the log collectors of platforms."""

    _second = _time = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """Return time (UTC), level, logger, message, request id and traceback of a record, or the facts of an event."""
        if isinstance(record, EventRecord):
            return self.lines([record.event], record.created)[:-1]
        event = {
            "time": self.time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id(),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return _encode_ascii(event)

    def lines(self, events: Sequence[Any], created_s: float) -> str:
        """Return a line for each event, each with a line feed. All events are encoded in one call if they are ASCII.

        Lines with the control character DEL, which the fast encoder does not escape, are encoded one by one too.
        """
        time = self.time(created_s)
        for event in events:
            event.time = time
        with contextlib.suppress(UnicodeEncodeError):  # a surrogate without its other half
            lines = _encoder.encode_lines(events)
            if lines.isascii() and DELETE not in lines:
                return lines.decode("ascii")
        return "".join(
            f"{_encode_ascii(msgspec.to_builtins(event, enc_hook=msgspec.json.decode))}\n" for event in events
        )

    def time(self, created_s: float) -> str:
        """Return the time in ISO 8601 with milliseconds. The last text and its second are cached."""
        milliseconds = int(created_s * 1e3)
        cached, text = self._time
        if milliseconds != cached:
            second, rest = divmod(milliseconds, 1000)
            cached, start = self._second  # read once: other threads replace it
            if second != cached:
                start = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
                self._second = second, start
            text = f"{start}.{rest:03d}+00:00"
            self._time = milliseconds, text
        return text


class LineHandler(logging.StreamHandler[TextIO]):
    """Log handler that writes lines to standard error."""

    formatter: JsonLines | ReadableLines

    def write(self, events: Sequence[Any], created_s: float) -> None:
        """Write the lines of events in one call, without making log records."""
        lines = self.formatter.lines(events, created_s)
        with self.lock or contextlib.nullcontext():
            self.stream.write(lines)
            self.stream.flush()


class ReadableLines(logging.Formatter):
    """Formatter of lines for a terminal. It escapes control characters, so that one event stays on one line.

    With `colours`, it colours the level of a warning or an error, or the word that an event highlights.
    """

    def __init__(self, colours: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
        self._colours = colours

    def lines(self, events: Sequence[Any], created_s: float) -> str:
        """Return a line for each event, each with a line feed."""
        return "".join(f"{self.format(event.record(created_s))}\n" for event in events)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line with the id of its request. The base class appends the traceback."""
        line, current_id = super().formatMessage(record), request_id()
        line = line if current_id == NO_REQUEST or current_id in line else f"{line} [{current_id}]"
        line = line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        if not self._colours:
            return line
        if isinstance(record, EventRecord):
            word, colour = record.highlight
        else:
            word, colour = record.levelname, LEVEL_COLOURS.get(record.levelname, "")
        return line.replace(f" {word} ", f" \x1b[{colour}m{word}\x1b[0m ", 1) if colour else line


def configure_logging(level: str, readable: bool) -> None:
    """Write all log lines of this process to standard error in one format. Further calls change the format."""
    root = logging.getLogger()
    stream = next((handler for handler in root.handlers if isinstance(handler, LineHandler)), None)
    if stream is None:
        stream = LineHandler()
        root.addHandler(stream)
    stream.setFormatter(ReadableLines(shows_colours(stream.stream)) if readable else JsonLines())
    root.setLevel(level)
    logging.captureWarnings(True)  # otherwise warnings would bypass the format


def shows_colours(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that shows colours, and the user has not set NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def sole_handler(logger: logging.Logger) -> LineHandler | None:
    """Return Retort's handler if no other handler gets the records of a logger, and no filter sees them.

    Events can then be written without log records, which take as long as all the rest.
    """
    while logger.parent is not None:
        if logger.handlers or logger.filters or logger.disabled or not logger.propagate:
            return None
        logger = logger.parent
    if len(logger.handlers) != 1:
        return None
    handler = logger.handlers[0]
    if not isinstance(handler, LineHandler) or type(handler.formatter) not in (JsonLines, ReadableLines):
        return None
    return None if handler.filters or handler.level else handler


class LogStream(io.TextIOBase):
    """Replacement of a standard stream that writes each line to the log. Closing it does nothing."""

    def __init__(self, name: str, original: TextIO) -> None:
        self._logger = logging.getLogger(name)
        self._original = original
        self._thread = threading.local()
        self.buffer = original.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # the base class has it as an attribute
        """The encoding of the original stream."""
        return self._original.encoding

    def fileno(self) -> int:
        """Return the descriptor of the original stream."""
        return self._original.fileno()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Log complete lines; keep the rest until its line ends."""
        if getattr(self._thread, "is_writing", False):  # logging itself has failed, and prints its error here
            return self._original.write(text)
        *lines, rest = (getattr(self._thread, "rest", "") + text).split("\n")
        if len(rest) > MAX_LINE_CHARS:
            lines, rest = [*lines, rest], ""
        self._thread.rest = rest
        self._log(lines)
        return len(text)

    def close(self) -> None:
        """Do nothing, because other code writes here too."""

    def _log(self, lines: list[str]) -> None:
        self._thread.is_writing = True
        try:
            for line in lines:
                if line.strip():
                    self._logger.info("%s", line)
        finally:
            self._thread.is_writing = False


def log_standard_streams() -> None:
    """Write the printed text of this process to the log, in the format of log lines."""
    with contextlib.suppress(AttributeError):  # a process without a console has no streams
        sys.stdout, sys.stderr = LogStream("stdout", sys.stdout), LogStream("stderr", sys.stderr)
