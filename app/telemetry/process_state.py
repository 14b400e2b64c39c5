"""Restore process-wide state that a model's code may change; turn printed text into log lines."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from typing import TextIO

log = logging.getLogger(__name__)

MAX_LINE_CHARS = 65_536
"""Longer lines are logged in parts."""


class ProcessState:
    """Remembers the process-wide state that every request depends on. Safe to use from many threads.

    A model may lower the recursion limit, disable logging or remove its handlers for the whole process. `restore`
    returns to the state of the first call of `remember`.
    """

    def __init__(self) -> None:
        self._recursion_limit = 0
        self._handlers: list[logging.Handler] = []
        self._level = self._disabled = 0

    def remember(self) -> None:
        """Remember the present state once, before any user code has run."""
        if not self._recursion_limit:
            root = logging.getLogger()
            self._handlers, self._level, self._disabled = list(root.handlers), root.level, root.manager.disable
            self._recursion_limit = sys.getrecursionlimit()

    def restore(self, culprit: str) -> None:
        """Undo changes, and log them with the name of the culprit."""
        changed = []
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
            changed.append("the recursion limit")
        root = logging.getLogger()
        if (root.handlers, root.level, root.manager.disable) != (self._handlers, self._level, self._disabled):
            root.handlers[:] = self._handlers
            root.setLevel(self._level)
            root.manager.disable = self._disabled
            changed.append("logging")
        if changed:
            log.warning("%s changed %s for the whole process; it is as it was again", culprit, " and ".join(changed))


class LogStream(io.TextIOBase):
    """Replaces a standard stream and writes each line to the log. Closing it does nothing."""

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
        if getattr(self._thread, "is_writing", False):  # logging itself failed and reports it here
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
    """Send printed text of this process to the log, where it gets the format of log lines."""
    with contextlib.suppress(AttributeError):  # a process without a console has no streams
        sys.stdout, sys.stderr = LogStream("stdout", sys.stdout), LogStream("stderr", sys.stderr)
