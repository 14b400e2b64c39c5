"""The state of this process: undo process-wide changes by a model's code, and measure and tune memory."""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import gc
import io
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from types import BuiltinFunctionType, ModuleType
from typing import Any

log = logging.getLogger(__name__)

ROLLUP = Path("/proc/self/smaps_rollup")
SUMS = {
    "shared": ("Shared_Clean", "Shared_Dirty"),
    "private": ("Private_Clean", "Private_Dirty"),
    "proportional": ("Pss",),
}
"""The fields of proc_pid_smaps(5) that make up each figure."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), from glibc's malloc.h."""
LARGE_BLOCK_BYTES = 2**20
"""Blocks of this size or more are returned to the system when they are freed."""
KEPT_BLOCK_BYTES, KEPT_BYTES = 2**25, 2**28
"""For `keep_freed_blocks`: the largest block that is kept, and the limit of all kept memory."""


def _functions_of(module: ModuleType) -> tuple[str, ...]:
    return tuple(name for name, value in vars(module).items() if isinstance(value, BuiltinFunctionType))


FUNCTIONS: tuple[tuple[ModuleType | type, tuple[str, ...]], ...] = (
    (builtins, _functions_of(builtins)),
    (time, _functions_of(time)),
    (json, ("dumps", "loads")),
    (logging, ("getLogger", "_logRecordFactory", "_loggerClass")),
    (logging.Logger, ("info", "warning", "error", "isEnabledFor", "_log", "handle", "callHandlers")),
    (threading, ("Thread", "Lock", "Event", "current_thread", "get_ident")),
    (threading.Thread, ("start", "run", "join")),
    (os, ("kill", "killpg", "getpid", "getppid", "read", "write", "eventfd_read", "eventfd_write")),
    (io, ("BytesIO", "StringIO")),
    (socket, ("socket",)),
    (socket.socket, ("accept", "close")),
    (contextlib, ("suppress",)),
    (tempfile, ("tempdir",)),
)
"""Functions and classes of Python that every request uses, with the module or class to which they belong."""
IMPORTING: tuple[tuple[str, list[Any]], ...] = (
    ("sys.path", sys.path),
    ("sys.meta_path", sys.meta_path),
    ("sys.path_hooks", sys.path_hooks),
)
"""Lists that Python's import uses. The first request that needs a module may import it."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGALRM)
"""Signals whose handlers a model can set while it runs in the main thread: during its recorded examples."""
OWN_LOGGERS = ("retort.access", __name__)
"""If one of these is disabled, user code has disabled loggers: `logging.config.dictConfig` disables all existing ones
that its argument does not name."""


class _Functions:
    """The functions of one module or class."""

    def __init__(self, module: ModuleType | type, names: tuple[str, ...]) -> None:
        self._module = module
        self._names = names = tuple(name for name in names if name in vars(module))  # some systems lack a few
        self._read: Callable[[Any], tuple[Any, ...]] = itemgetter(*names, names[0])
        self._kept = self._read(vars(module))

    def restore(self) -> list[str]:
        """Put back functions that were replaced or deleted, and return their names."""
        try:
            if self._read(vars(self._module)) == self._kept:  # compares by identity first
                return []
        except KeyError:
            pass
        members = vars(self._module)
        changed = [
            (name, kept) for name, kept in zip(self._names, self._kept, strict=False) if members.get(name) is not kept
        ]
        for name, kept in changed:
            setattr(self._module, name, kept)
        return [f"{self._module.__name__}.{name}" for name, _ in changed]


class ProcessState:
    """The remembered process-wide state that every request depends on. Safe to use from many threads.

    A model may lower the recursion limit, disable logging or remove its handlers, or replace functions of Python, for
    the whole process. `restore` returns to the state of the first call of `remember`.
    """

    def __init__(self) -> None:
        self._recursion_limit = 0
        self._handlers: list[logging.Handler] = []
        self._level = self._disabled = 0
        self._switch_interval_s = 0.0
        self._collects = True
        self._signals: list[Any] = []
        self._functions: list[_Functions] = []
        self._importing: list[list[Any]] = []
        self._loggers: list[logging.Logger] = []
        self._own_loggers = [logging.getLogger(name) for name in OWN_LOGGERS]
        self._root = logging.root

    def remember(self) -> None:
        """Remember the present state at the first call, before any user code has run."""
        if not self._recursion_limit:
            root = self._root
            with contextlib.suppress(OSError):  # there may be no folder for temporary files
                tempfile.gettempdir()
            self._functions = [_Functions(module, names) for module, names in FUNCTIONS]
            self._handlers, self._level, self._disabled = list(root.handlers), root.level, root.manager.disable
            loggers = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
            self._loggers = [logger for logger in loggers if not logger.disabled]
            self._importing = [list(kept) for _, kept in IMPORTING]
            self._signals = [signal.getsignal(number) for number in SIGNALS]
            self._collects = gc.isenabled()
            self._switch_interval_s = sys.getswitchinterval()
            self._recursion_limit = sys.getrecursionlimit()

    def restore(self, culprit: str) -> None:
        """Undo all changes since `remember`, and log them with the name of the culprit."""
        changed = [name for functions in self._functions for name in functions.restore()]
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
            changed.append("the recursion limit")
        if sys.getswitchinterval() != self._switch_interval_s:
            sys.setswitchinterval(self._switch_interval_s)
            changed.append("the switch interval")
        if gc.isenabled() is not self._collects:
            (gc.enable if self._collects else gc.disable)()
            changed.append("garbage collection")
        changed += self._restore_importing()
        if threading.get_ident() == threading.main_thread().ident:
            changed += self._restore_signals()
        root = self._root
        if any(logger.disabled for logger in self._own_loggers):
            for logger in self._loggers:
                logger.disabled = False
            changed.append("loggers")
        if (root.handlers, root.level, root.manager.disable) != (self._handlers, self._level, self._disabled):
            root.handlers[:] = self._handlers
            root.setLevel(self._level)
            root.manager.disable = self._disabled
            changed.append("logging")
        if changed:
            log.warning("%s changed %s for the whole process; it is as it was again", culprit, " and ".join(changed))

    def _restore_signals(self) -> Iterator[str]:
        """Restore replaced handlers of signals, and yield their names. Only the main thread may do that."""
        for number, handler in zip(SIGNALS, self._signals, strict=False):
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
                yield f"the handler of {number.name}"

    def _restore_importing(self) -> Iterator[str]:
        """Put back missing members of the lists that Python's import uses, and yield the names of these lists."""
        for (name, present), kept in zip(IMPORTING, self._importing, strict=False):
            if present != kept and (missing := [member for member in kept if member not in present]):
                present.extend(missing)
                yield name


def give_large_blocks_back() -> None:
    """Return blocks of a mebibyte or more to the system when they are freed, in all threads.

    By default glibc keeps freed blocks of up to 32 MiB for each thread (mallopt(3)). A few large bodies or images would
    then use a gigabyte permanently. With another malloc this does nothing.
    """
    _mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def keep_freed_blocks() -> None:
    """Reuse freed blocks, in all threads, in a process that allocates the same megabytes again and again.

    By default glibc returns freed blocks to the system. Each page of the next block then costs a page fault, which
    takes a microsecond.
    """
    _mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
    _mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _mallopt(parameter: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(parameter, value)


def memory_bytes(rollup: Path = ROLLUP) -> dict[str, int]:
    """Return the shared, the private and the proportional (PSS) bytes of this process.

    Do not call it on an event loop: the kernel walks the page tables, which takes milliseconds for each gigabyte. The
    result is empty if the system has no such file.
    """
    try:
        lines = rollup.read_text("ascii").splitlines()[1:]
    except OSError:
        return {}
    found_kb = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    return {name: 1024 * sum(found_kb.get(field, 0) for field in fields) for name, fields in SUMS.items()}


def watch(look: Callable[[], None], every_s: float, stop: threading.Event) -> threading.Thread:
    """Call a function repeatedly in a daemon thread until `stop` is set."""

    def call_repeatedly() -> None:
        while not stop.wait(every_s):
            try:
                look()
            except Exception:
                log.exception("the metrics of this process could not be updated")

    thread = threading.Thread(target=call_repeatedly, name="retort-metrics", daemon=True)
    thread.start()
    return thread
