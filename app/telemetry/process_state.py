"""What foreign code may have changed in this process, and the way back; what it prints becomes log lines."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from typing import TextIO

log = logging.getLogger(__name__)

MAX_LINE_CHARS = 65_536
"""A line longer than this is logged without waiting for its end."""


class ProcessState:
    """Keep the state that every request depends on. Safe to use from many threads.

    A model may set a low recursion limit, switch logging off, or take its handlers away, for the whole process. The
    state to go back to is that of the first call of `remember`.
    """

    def __init__(self) -> None:
        self._recursion_limit = 0
        self._handlers: list[logging.Handler] = []
        self._level = self._disabled = 0

    def remember(self) -> None:
        """Take the state as it is now, once, before any foreign code has run."""
        if not self._recursion_limit:
            root = logging.getLogger()
            self._handlers, self._level, self._disabled = list(root.handlers), root.level, root.manager.disable
            self._recursion_limit = sys.getrecursionlimit()

    def restore(self, culprit: str) -> None:
        """Undo what was changed, and log it with the name of the culprit."""
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
    """Write each line to the log, in place of a standard stream. Closing it changes nothing."""

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
        """Log the lines that are complete; the rest waits for its end."""
        if getattr(self._thread, "is_writing", False):  # the log itself fails, and says so here
            return self._original.write(text)
        *lines, rest = (getattr(self._thread, "rest", "") + text).split("\n")
        if len(rest) > MAX_LINE_CHARS:
            lines, rest = [*lines, rest], ""
        self._thread.rest = rest
        self._log(lines)
        return len(text)

    def close(self) -> None:
        """Do nothing: others write here, too."""

    def _log(self, lines: list[str]) -> None:
        self._thread.is_writing = True
        try:
            for line in lines:
                if line.strip():
                    self._logger.info("%s", line)
        finally:
            self._thread.is_writing = False


def log_standard_streams() -> None:
    """Have what is printed in this process become log lines: else it stands between them in no form at all."""
    with contextlib.suppress(AttributeError):  # without a console there are none
        sys.stdout, sys.stderr = LogStream("stdout", sys.stdout), LogStream("stderr", sys.stderr)
