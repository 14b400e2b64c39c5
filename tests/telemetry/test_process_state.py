"""Changes of process-wide state are undone, and printed text is logged."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.telemetry.process_state import MAX_LINE_CHARS, LogStream, ProcessState


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, restored after the test."""
    logger, limit = logging.getLogger(), sys.getrecursionlimit()
    handlers, level, disabled = list(logger.handlers), logger.level, logger.manager.disable
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.manager.disable = disabled
    sys.setrecursionlimit(limit)


def test_changes_are_undone_and_logged(root: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    state, limit = ProcessState(), sys.getrecursionlimit()
    handlers = list(root.handlers)
    state.remember()
    sys.setrecursionlimit(limit + 5000)
    root.handlers.clear()
    logging.disable(logging.CRITICAL)
    state.remember()  # only the first time counts
    state.restore("model a version 1")
    assert (sys.getrecursionlimit(), root.handlers, root.manager.disable) == (limit, handlers, 0)
    assert caplog.messages == [
        "model a version 1 changed the recursion limit and logging for the whole process; it is as it was again"
    ]


def test_nothing_is_logged_without_changes(caplog: pytest.LogCaptureFixture) -> None:
    state = ProcessState()
    state.remember()
    state.restore("model a version 1")
    assert caplog.messages == []


def test_each_printed_line_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    original = io.TextIOWrapper(io.BytesIO(), "utf-8")
    stream = LogStream("stdout", original)
    print("one\ntwo", end="", file=stream)
    assert caplog.messages == ["one"]
    print(" three", file=stream)
    stream.close()
    print(file=stream)
    print("after", file=stream)
    assert caplog.messages == ["one", "two three", "after"]


def test_a_line_without_an_end_is_logged_in_parts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stream = LogStream("stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
    for _ in range(3):
        stream.write("x" * MAX_LINE_CHARS)
    assert [len(message) for message in caplog.messages] == [2 * MAX_LINE_CHARS]


def test_messages_of_logging_itself_go_to_the_original_stream() -> None:
    original = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    stream = LogStream("loop", original)

    class Fails(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stream.write("--- Logging error ---\n")

    logger = logging.getLogger("loop")
    logger.addHandler(Fails())
    logger.propagate = False
    logger.setLevel(logging.INFO)
    stream.write("words\n")
    assert original.buffer.getvalue() == b"--- Logging error ---\n"  # type: ignore[attr-defined]


@pytest.mark.slow
def test_text_that_c_code_writes_is_passed_on_unchanged() -> None:
    program = (
        "import ctypes\n"
        "from app.telemetry.log_lines import configure_logging\n"
        "from app.telemetry.process_state import log_standard_streams\n"
        "configure_logging('INFO', readable=False)\n"
        "log_standard_streams()\n"
        "print('from Python', flush=True)\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.puts(b'from C')\n"
        "libc.fflush(None)\n"
        "libc.write(2, b'also from C\\n', 12)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = ran.stderr.splitlines()
    assert '"message":"from Python"' in first.replace(": ", ":")
    assert (ran.stdout, second) == ("from C\n", "also from C")
