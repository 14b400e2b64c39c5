"""The state of this process: restore what a model's code may change for all of it, and measure and tune its memory."""

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
"""From glibc's malloc.h."""
LARGE_BLOCK_BYTES = 2**20
KEPT_BLOCK_BYTES, KEPT_BYTES = 2**25, 2**28


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
"""Functions and classes of Python's own modules that every request uses, by the modules and classes that have them."""
IMPORTING: tuple[tuple[str, list[Any]], ...] = (
    ("sys.path", sys.path),
    ("sys.meta_path", sys.meta_path),
    ("sys.path_hooks", sys.path_hooks),
)
"""Lists by which Python imports modules. Some modules are imported by the first request that needs them."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGALRM)
"""Signals whose handlers a model can set where it runs in the main thread: while its recorded examples are run."""
OWN_LOGGERS = ("retort.access", __name__)
"""`logging.config.dictConfig` disables all loggers that are there, or only those that its argument does not name."""


class _Functions:
    """The functions of one module or class."""

    def __init__(self, module: ModuleType | type, names: tuple[str, ...]) -> None:
        self._module = module
        self._names = names = tuple(name for name in names if name in vars(module))  # not every system has all
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
    """Remembers the process-wide state that every request depends on. Safe to use from many threads.

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
        """Remember the present state once, before any user code has run."""
        if not self._recursion_limit:
            root = self._root
            with contextlib.suppress(OSError):  # there may be no folder for temporary files
                tempfile.gettempdir()
            self._functions = [_Functions(module, names) for module, names in FUNCTIONS]
            self._handlers, self._level, self._disabled = list(root.handlers), root.level, root.manager.disable
            known = [each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
            self._loggers = [each for each in known if not each.disabled]
            self._importing = [list(kept) for _, kept in IMPORTING]
            self._signals = [signal.getsignal(number) for number in SIGNALS]
            self._collects = gc.isenabled()
            self._switch_interval_s = sys.getswitchinterval()
            self._recursion_limit = sys.getrecursionlimit()

    def restore(self, culprit: str) -> None:
        """Undo changes, and log them with the name of the culprit."""
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
        changed += self._restored_importing()
        if threading.get_ident() == threading.main_thread().ident:
            changed += self._restored_signals()
        root = self._root
        if any(each.disabled for each in self._own_loggers):
            for each in self._loggers:
                each.disabled = False
            changed.append("loggers")
        if (root.handlers, root.level, root.manager.disable) != (self._handlers, self._level, self._disabled):
            root.handlers[:] = self._handlers
            root.setLevel(self._level)
            root.manager.disable = self._disabled
            changed.append("logging")
        if changed:
            log.warning("%s changed %s for the whole process; it is as it was again", culprit, " and ".join(changed))

    def _restored_signals(self) -> Iterator[str]:
        """Set replaced handlers of signals again, and yield their names. Only the main thread may do that."""
        for number, handler in zip(SIGNALS, self._signals, strict=False):
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
                yield f"the handler of {number.name}"

    def _restored_importing(self) -> Iterator[str]:
        """Put back missing members of the lists by which Python imports, and yield the names of these lists."""
        for (name, present), kept in zip(IMPORTING, self._importing, strict=False):
            if present != kept and (missing := [each for each in kept if each not in present]):
                present.extend(missing)
                yield name


def give_large_blocks_back() -> None:
    """Return blocks of a mebibyte or more to the system when they are freed, in all threads.

    By default glibc keeps freed blocks of up to 32 MiB for each thread (mallopt(3)), so that a few large bodies or
    images take a gigabyte permanently. With another malloc this does nothing.
    """
    _mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def keep_freed_blocks() -> None:
    """Keep freed blocks for the next ones, in all threads, in a process that takes the same megabytes again and again.

    By default glibc returns them to the system, and each page of the next block is a fault of a microsecond.
    """
    _mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
    _mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _mallopt(parameter: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(parameter, value)


def memory_bytes(rollup: Path = ROLLUP) -> dict[str, int]:
    """Return the shared, the private and the proportional (PSS) bytes of this process.

    The kernel walks the page tables, which takes milliseconds per gigabyte and lets other threads run: do not call it
    on an event loop. Empty if the system has no such file.
    """
    try:
        lines = rollup.read_text("ascii").splitlines()[1:]
    except OSError:
        return {}
    found_kb = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    return {name: 1024 * sum(found_kb.get(field, 0) for field in fields) for name, fields in SUMS.items()}


def watch(look: Callable[[], None], every_s: float, stop: threading.Event) -> threading.Thread:
    """Call a function repeatedly in a daemon thread until `stop` is set."""

    def go_on() -> None:
        while not stop.wait(every_s):
            try:
                look()
            except Exception:
                log.exception("the metrics of this process could not be updated")

    thread = threading.Thread(target=go_on, name="retort-metrics", daemon=True)
    thread.start()
    return thread
