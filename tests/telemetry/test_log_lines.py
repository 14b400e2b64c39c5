"""Log lines: JSON, or readable ones."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec
import pytest

from app.telemetry import RequestScope, current_request
from app.telemetry.log_lines import (
    EventRecord,
    JsonLines,
    LineHandler,
    ReadableLines,
    configure_logging,
    shows_colours,
    sole_handler,
)

LOG = "retort.test"


class Event(msgspec.Struct):
    """The facts of an event."""

    word: str
    time: str = ""

    def record(self, created_s: float) -> EventRecord:
        made = EventRecord(LOG, logging.INFO, __file__, 1, self.word, None, None)
        made.event, made.created = self, created_s
        return made


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


class Collector(logging.Handler):
    """A handler of another library."""

    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError("nothing is logged here")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Remove our handler from the root logger during a test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers[:] = [handler for handler in handlers if not isinstance(handler, LineHandler)]
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("app.test", logging.WARNING, __file__, 1, message, arguments, exc_info)


def test_a_json_line_is_one_line_with_the_facts() -> None:
    token = current_request.set(RequestScope("r-1"))
    try:
        line = JsonLines().format(record("two\nlines %s \ud800", "é"))
    finally:
        current_request.reset(token)
    assert "\n" not in line
    assert line.isascii()
    event = json.loads(line)
    assert event.pop("time").endswith("+00:00")
    assert event == {
        "level": "WARNING",
        "logger": "app.test",
        "message": "two\nlines é \ud800",
        "request_id": "r-1",
    }


def test_a_json_line_says_when_in_utc() -> None:
    event = record("now")
    said = datetime.fromisoformat(json.loads(JsonLines().format(event))["time"])
    assert said.utcoffset() == timedelta(0)
    assert abs(said.timestamp() - event.created) < 0.001


def test_a_json_line_holds_its_traceback() -> None:
    try:
        raise ValueError("what the model said")
    except ValueError as error:
        line = JsonLines().format(record("failed", error=error))
    assert "\n" not in line
    assert json.loads(line)["traceback"].splitlines()[-1] == "ValueError: what the model said"


def test_outside_a_request_the_id_is_a_dash() -> None:
    assert json.loads(JsonLines().format(record("at start")))["request_id"] == "-"


def test_a_readable_line_stays_one_line() -> None:
    line = ReadableLines().format(record("%s", "a\nb\x1b[31m\u202eé\u2028 'quoted' \\"))
    assert line.endswith("WARNING a\\nb\\x1b[31m\\u202eé\\u2028 'quoted' \\")
    assert line.isprintable()


def test_a_readable_line_has_its_traceback_below() -> None:
    try:
        raise ValueError("what the model said")
    except ValueError as error:
        first, *below = ReadableLines().format(record("failed", error=error)).splitlines()
    assert first.endswith("failed")
    assert below[-1] == "ValueError: what the model said"


def test_the_last_configuration_of_logging_applies(root_logger: logging.Logger) -> None:
    theirs = Collector()
    root_logger.addHandler(theirs)
    before = list(root_logger.handlers)
    configure_logging("DEBUG", readable=True)
    configure_logging("ERROR", readable=False)
    [ours] = [handler for handler in root_logger.handlers if handler not in before]
    assert theirs in root_logger.handlers
    assert isinstance(ours, logging.StreamHandler)
    assert ours.stream is sys.stderr
    assert isinstance(ours.formatter, JsonLines)
    assert root_logger.level == logging.ERROR
    configure_logging("ERROR", readable=True)
    assert isinstance(ours.formatter, ReadableLines)


@pytest.mark.parametrize("word", ["plain", "é\u2028\x1b\n", chr(0xD800), '"'])
def test_an_event_gives_the_same_line_with_and_without_a_record(word: str) -> None:
    lines = JsonLines()
    event, other = Event(word), Event("other")
    record = Event(word).record(1.5)
    line, line_of_other, end = lines.lines([event, other], 1.5).split("\n")
    assert line == lines.format(record)
    assert json.loads(line_of_other)["word"] == "other"
    assert (end, line.isascii(), line.isprintable()) == ("", True, True)
    assert json.loads(line) == {"time": "1970-01-01T00:00:01.500+00:00", "word": word}


@pytest.mark.parametrize("readable", [False, True])
def test_events_are_written_as_they_would_be_with_records(root_logger: logging.Logger, readable: bool) -> None:
    configure_logging("INFO", readable)
    handler = our_handler(root_logger)
    handler.stream = io.StringIO()
    logger = logging.getLogger(LOG)
    logger.handle(Event("one").record(1.5))
    logger.handle(Event("two").record(1.5))
    each, handler.stream = handler.stream.getvalue(), io.StringIO()
    handler.write([Event("one"), Event("two")], 1.5)
    assert handler.stream.getvalue() == each
    assert [line.count(word) for line, word in zip(each.splitlines(), ("one", "two"), strict=True)] == [1, 1]


def test_our_handler_gets_whole_lines_only_where_it_is_alone(root_logger: logging.Logger) -> None:
    root_logger.handlers.clear()
    logger = logging.getLogger(LOG)
    configure_logging("INFO", readable=False)
    ours = our_handler(root_logger)
    assert sole_handler(logger) is ours
    theirs = Collector()
    for owner in (logger, root_logger):
        owner.addHandler(theirs)
        assert sole_handler(logger) is None
        owner.removeHandler(theirs)
    logger.addFilter(bool)
    assert sole_handler(logger) is None
    logger.removeFilter(bool)
    ours.setLevel(logging.ERROR)
    assert sole_handler(logger) is None
    ours.setLevel(logging.NOTSET)
    ours.setFormatter(logging.Formatter())
    assert sole_handler(logger) is None
    configure_logging("INFO", readable=True)
    assert sole_handler(logger) is ours
    root_logger.handlers.clear()
    assert sole_handler(logger) is None


def our_handler(root: logging.Logger) -> LineHandler:
    [ours] = [handler for handler in root.handlers if isinstance(handler, LineHandler)]
    return ours


def test_colours_are_for_terminals_and_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert (shows_colours(Terminal()), shows_colours(io.StringIO())) == (True, False)
    monkeypatch.setenv("TERM", "dumb")
    assert not shows_colours(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not shows_colours(Terminal())


def test_the_level_of_a_warning_has_a_colour_and_hostile_words_have_none() -> None:
    line = ReadableLines(colours=True).format(record("\x1b[31mred"))
    assert "\x1b[33mWARNING\x1b[0m \\x1b[31mred" in line
    assert line.count("\x1b") == 2
