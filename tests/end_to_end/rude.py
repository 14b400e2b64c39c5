"""A model that changes its whole process when it gets certain values."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

PRINTED = "words of a model"
FIRST = 1000.25
"""The value of the first action. Packing tries rounder values."""


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
    "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


class Rude(RegressorMixin, BaseEstimator):
    """Predicts twice the first input, and runs the action of that number after `FIRST`."""

    def fit(self, features: np.ndarray, target: Any = None) -> Rude:
        self.n_features_in_ = features.shape[1]
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        for value in features[:, 0]:
            if value - FIRST in range(len(ACTIONS)):
                list(ACTIONS.values())[int(value - FIRST)]()
        return features[:, 0] * 2
