"""One loader for each format of artifact: a verified file in, an estimator out. To add one, name it in `LOADERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from app.runtime.loaders import joblib, skops

Loader = Callable[[BinaryIO], Any]

LOADERS: dict[str, Loader] = {"joblib": joblib.load, "skops": skops.load}
FORMAT_OF_SUFFIX = {".joblib": "joblib", ".pkl": "joblib", ".pickle": "joblib", ".skops": "skops"}
