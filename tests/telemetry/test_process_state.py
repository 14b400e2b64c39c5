"""Changes of process-wide state are undone, and printed text is logged."""

from __future__ import annotations

import gc
import io
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from app.telemetry import process_state
from app.telemetry.log_lines import MAX_LINE_CHARS, LogStream
from app.telemetry.process_state import ProcessState


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """Restore the root logger after the test."""
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


def test_functions_of_python_that_were_replaced_or_deleted_are_put_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = ProcessState()
    state.remember()
    monkeypatch.setattr(time, "monotonic", time.time)
    monkeypatch.setattr(json, "dumps", repr)
    monkeypatch.setattr(logging, "getLogger", None)
    monkeypatch.setattr(threading.Thread, "start", None)
    monkeypatch.delattr("builtins.sorted")
    monkeypatch.setattr("builtins.len", lambda value: 3)
    state.restore("model a version 1")
    assert caplog.messages == [
        "model a version 1 changed builtins.len and builtins.sorted and time.monotonic and json.dumps and "
        "logging.getLogger and Thread.start for the whole process; it is as it was again"
    ]
    assert len(sorted([2, 1])) == 2
    assert time.monotonic is not time.time
    assert json.dumps(1.5) == "1.5"
    assert logging.getLogger().name == "root"


def test_loggers_that_a_configuration_disabled_are_enabled(caplog: pytest.LogCaptureFixture) -> None:
    access_log = logging.getLogger("retort.access")
    disabled = logging.getLogger("disabled before")
    disabled.disabled = True
    state = ProcessState()
    state.remember()
    for each in logging.root.manager.loggerDict.values():  # as `logging.config.dictConfig` does by default
        if isinstance(each, logging.Logger):
            each.disabled = True
    state.restore("model a version 1")
    assert not access_log.disabled
    assert disabled.disabled
    assert caplog.messages == ["model a version 1 changed loggers for the whole process; it is as it was again"]


def test_lists_of_importers_get_back_the_members_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths, importers = ["/a", "/b"], [object()]
    monkeypatch.setattr(process_state, "IMPORTING", (("sys.path", paths), ("sys.meta_path", importers)))
    state = ProcessState()
    state.remember()
    paths.insert(0, "/c")  # a library may add more
    state.restore("model a version 1")
    assert (paths, caplog.messages) == (["/c", "/a", "/b"], [])
    paths.remove("/a")
    importers.clear()
    state.restore("model a version 1")
    assert (sorted(paths), len(importers)) == (["/a", "/b", "/c"], 1)
    assert "sys.path and sys.meta_path" in caplog.text


def test_handlers_of_signals_are_set_again(caplog: pytest.LogCaptureFixture) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    state = ProcessState()
    state.remember()
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        in_a_thread = threading.Thread(target=state.restore, args=("model a version 1",))
        in_a_thread.start()
        in_a_thread.join()
        assert caplog.messages == []
        state.restore("model a version 1")
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert "the handler of SIGTERM" in caplog.text


def test_garbage_is_collected_again(caplog: pytest.LogCaptureFixture) -> None:
    state = ProcessState()
    state.remember()
    try:
        gc.disable()
        state.restore("model a version 1")
        assert gc.isenabled()
    finally:
        gc.enable()
    assert "garbage collection" in caplog.text


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
        "from app.telemetry.log_lines import log_standard_streams\n"
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
