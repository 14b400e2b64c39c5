"""One loader for each format: it reads a verified file into a servable. To add one, name it in `LOADERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from app.runtime.loaders import joblib, onnx, skops
from app.runtime.servable import Servable
from app.signature import Signature

Loader = Callable[[BinaryIO, Signature], Servable]

LOADERS: dict[str, Loader] = {"joblib": joblib.load, "skops": skops.load, "onnx": onnx.load}

READERS: dict[str, Callable[[BinaryIO], Any]] = {"joblib": joblib.read, "skops": skops.read}
"""The formats that hold an estimator, for packing."""
