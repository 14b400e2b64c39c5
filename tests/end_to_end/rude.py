"""A model that changes its whole process when it gets certain values."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import faulthandler
import gc
import io
import json
import locale
import logging
import logging.config
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

PRINTED = "words of a model"
FIRST = 1000.25
"""The value of the first action. Packing tries only rounder values."""


def _lower_the_recursion_limit() -> None:
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    sys.setrecursionlimit(depth + 12)


def _print() -> None:
    print(PRINTED)
    print(f'{{"level": "{PRINTED}"', file=sys.stderr)
    print("no end of line", end="")
    sys.stdout.flush()


def _take_the_handlers_of_the_log() -> None:
    logging.getLogger().handlers.clear()
    logging.basicConfig(level=logging.DEBUG, format="%(message)s", force=True)


def _close_the_standard_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()


def _replace_json() -> None:
    def broken(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("a model has replaced json.dumps")

    json.dumps = broken


def _raising(name: str) -> Callable[..., Any]:
    def broken(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError(f"a model has replaced {name}")

    return broken


def _replace(module: Any, name: str) -> Callable[[], object]:
    return lambda: setattr(module, name, _raising(name))


def _exit_in_threads() -> None:
    for _ in range(5):
        threading.Thread(target=sys.exit, args=(3,)).start()
    threading.Thread(target=_raising("a thread")).start()


def _few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (len([*Path("/proc/self/fd").iterdir()]) + 40, 1024))


def _fork() -> None:
    if os.fork() == 0:
        signal.alarm(3)
        signal.pause()


def _signal_the_server() -> None:
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        for send, target in ((os.kill, os.getppid()), (os.killpg, os.getpgid(os.getppid()))):
            with contextlib.suppress(PermissionError):
                send(target, number)


ACTIONS: dict[str, Callable[[], object]] = {
    "recursion limit": _lower_the_recursion_limit,
    "prints": _print,
    "logging disabled": lambda: logging.disable(logging.CRITICAL),
    "handlers of the log": _take_the_handlers_of_the_log,
    "streams closed": _close_the_standard_streams,
    "folder": lambda: os.chdir("/"),
    "floating-point errors": lambda: np.seterr(all="raise"),
    "warnings are errors": lambda: warnings.simplefilter("error"),
    "environment": os.environ.clear,
    "time-out of sockets": lambda: socket.setdefaulttimeout(0.001),
    "json": _replace_json,
    "umask": lambda: os.umask(0o777),
    "garbage": gc.disable,
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
    "trace": lambda: threading.settrace(_raising("the trace")),
    "profile": lambda: sys.setprofile(_raising("the profile")),
    "hook of exceptions": _replace(sys, "excepthook"),
    "hook of threads": _replace(threading, "excepthook"),
    "exits in threads": _exit_in_threads,
    "faulthandler": faulthandler.disable,
    "print": _replace(builtins, "print"),
    "open": _replace(builtins, "open"),
    "log record": lambda: logging.setLogRecordFactory(_raising("the factory of records")),
    "log class": lambda: logging.setLoggerClass(logging.Logger),
    "getLogger": _replace(logging, "getLogger"),
    "switch interval": lambda: sys.setswitchinterval(10.0),
    "temporary folder": lambda: setattr(tempfile, "tempdir", "/nowhere"),
    "thread start": _replace(threading.Thread, "start"),
    "few files": _few_files,
    "a fork": _fork,
    "at exit": lambda: atexit.register(_raising("the end")),
    "time": _replace(time, "time"),
    "monotonic": _replace(time, "monotonic"),
    "perf_counter": _replace(time, "perf_counter"),
    "time_ns": _replace(time, "time_ns"),
    "strftime": _replace(time, "strftime"),
    "gmtime": _replace(time, "gmtime"),
    "uuid": _replace(uuid, "uuid4"),
    "timer": lambda: signal.setitimer(signal.ITIMER_REAL, 0.001),
    "signals to the server": _signal_the_server,
    "no standard streams": lambda: (setattr(sys, "stdout", None), setattr(sys, "stderr", None)),
    "profile of threads": lambda: threading.setprofile(_raising("the profile")),
    "loggers disabled": lambda: logging.config.dictConfig({"version": 1, "disable_existing_loggers": True}),
    "log handlers closed": logging.shutdown,
    "log method": lambda: setattr(logging.Logger, "handle", _raising("Logger.handle")),
    "no path": sys.path.clear,
    "no importers": sys.meta_path.clear,
    "no modules": lambda: [
        sys.modules.pop(name) for name in [*sys.modules] if name.startswith(("json", "pyarrow", "app."))
    ],
    "stack of threads": lambda: threading.stack_size(1 << 30),
    "socket class": _replace(socket, "socket"),
    "bytes in memory": _replace(io, "BytesIO"),
    "getppid": _replace(os, "getppid"),
    "another parent": lambda: setattr(os, "getppid", lambda: 1),
    "eventfd": _replace(os, "eventfd_write"),
    "os write": _replace(os, "write"),
    "lock": _replace(threading, "Lock"),
    "current thread": _replace(threading, "current_thread"),
    "garbage threshold": lambda: gc.set_threshold(1),
    "suppress": _replace(contextlib, "suppress"),
    "descriptors closed": lambda: [os.close(number) for number in (0, 1)],
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


class Rude(RegressorMixin, BaseEstimator):
    """Predict twice the first input, and run the action whose number is the difference to `FIRST`."""

    def fit(self, features: np.ndarray, target: Any = None) -> Rude:
        self.n_features_in_ = features.shape[1]
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        for value in features[:, 0]:
            if value - FIRST in range(len(ACTIONS)):
                list(ACTIONS.values())[int(value - FIRST)]()
        return features[:, 0] * 2
