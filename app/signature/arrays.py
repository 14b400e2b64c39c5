"""Arrays of a fixed shape: nested lists, raw bytes in base64, or an npy file."""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import marshmallow as ma
import numpy as np
from numpy.typing import NDArray

from app.signature import Input, Rule, range_seen, type_name
from app.signature.batch import Column
from app.telemetry import check_deadline

ELEMENTS = ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
ELEMENTS += ["float16", "float32", "float64"]
DTYPES = {name: np.dtype(name) for name in ELEMENTS} | {np.dtype(name).str: np.dtype(name) for name in ELEMENTS}
BIG_ENDIAN = {dtype.newbyteorder(">").str for dtype in DTYPES.values() if dtype.itemsize > 1}
MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 1000
HEADER = (
    re.compile(r"'descr':\s*'([^']*)'"),
    re.compile(r"'fortran_order':\s*(True|False)"),
    re.compile(r"'shape':\s*\(([0-9,\s]*)\)"),
)
MAX_ELEMENTS = 10_000_000
FORMS = ("b64", "dtype", "shape"), ("npy",)


class NotAccepted(ValueError):
    """A value is not accepted. The message is the reason, as the end of a sentence."""


WHITE_SPACE = b" \t\n\r\f\v"


def bytes_of(text: str) -> bytes:
    """Return the bytes of a base64 text. White space is skipped, because command-line tools break lines.

    Raises:
        NotAccepted: the text is not base64 (RFC 4648 section 4).
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    try:
        return binascii.a2b_base64(text.encode("ascii").translate(None, WHITE_SPACE), strict_mode=True)
    except ValueError:
        raise NotAccepted("must be base64 (RFC 4648)") from None


def rule_of_reader(read: Callable[[Any, Input], object], spec: Input) -> Rule:
    """Return the rule that accepts the values for which `read` does not raise NotAccepted."""

    def problem(value: Any) -> str | None:
        check_deadline()
        try:
            read(value, spec)
        except NotAccepted as error:
            return str(error)
        return None

    return problem


class Array:
    """An array whose shape the signature fixes. A value of type bytes is the content of a file."""

    field_class = ma.fields.Raw

    def rule(self, spec: Input) -> Rule:
        """Return the rule: arrays of the input's shape, with elements that its dtype can hold."""
        require_shape(spec)
        return rule_of_reader(array_of, spec)

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column, shape (rows, *shape), of the input's dtype."""
        shape = require_shape(spec)
        try:
            arrays = [array_of(value, spec) for value in values]
        except NotAccepted:
            return None
        return np.stack(arrays) if arrays else np.empty((0, *shape), dtype=spec.dtype)

    def describe(self, spec: Input) -> str:
        """Describe the shape and the accepted forms."""
        null = "; an element may be null (missing)" if spec.nullable else ""
        seen = f"; {range_seen(spec)}" if range_seen(spec) else ""
        return (
            f"an array of shape {written(spec)} of {spec.dtype}: nested lists, or raw bytes (little-endian, row-major) "
            f'as {{"b64": "…", "dtype": "{spec.dtype}", "shape": {list(require_shape(spec))}}}, or {{"npy": "…"}} '
            f"with a file of numpy.save in base64{null}{seen}"
        )

    def schema(self, spec: Input) -> dict[str, Any]:
        """Return the schema of nested arrays, or of an object with the bytes."""
        element = ["boolean"] if spec.dtype == "bool" else ["number"]
        nested: dict[str, Any] = {"type": [*element, "null"] if spec.nullable else element}
        for size in reversed(require_shape(spec)):
            nested = {"type": "array", "items": nested, "minItems": size, "maxItems": size}
        strings = {name: {"type": "string"} for name in ("b64", "npy", "dtype")}
        shape = {"type": "array", "items": {"type": "integer"}}
        return {**nested, "type": ["array", "object"], "properties": {**strings, "shape": shape}}


def require_shape(spec: Input) -> tuple[int, ...]:
    """Return the shape of an input; raise ValueError if no array can have it, or its dtype."""
    shape = spec.shape or ()
    if not shape or min(shape) < 1 or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"the shape {list(shape)} must have 1 to {MAX_ELEMENTS} elements")
    if spec.dtype not in ELEMENTS:
        raise ValueError(f"an array is of one of: {', '.join(ELEMENTS)}")
    return shape


def written(spec: Input) -> str:
    """Return the shape as text: `8 x 8`."""
    return " x ".join(map(str, spec.shape or ()))


def array_of(value: object, spec: Input) -> NDArray[Any]:
    """Return the array of a value, with the input's shape and dtype; raise NotAccepted if it is not one."""
    if type(value) is list:
        return _check_elements(_of_lists(value, spec), spec)
    if type(value) is bytes:
        return _check_elements(
            _of_npy(value, spec) if value.startswith(MAGIC) else _of_raw(value, spec.dtype, spec), spec
        )
    if type(value) is not dict:
        raise NotAccepted(
            f'must be nested lists of shape {written(spec)}, {{"b64": …}} or {{"npy": …}}, not {type_name(value)}'
        )
    forms = [form for form in FORMS if form[0] in value and value.keys() <= set(form)]
    if not forms or type(value[forms[0][0]]) is not str:
        raise NotAccepted('must have "b64" (with "dtype" and "shape") or "npy", a string in base64, and nothing else')
    content = bytes_of(value[forms[0][0]])
    if forms[0] == ("npy",):
        return _check_elements(_of_npy(content, spec), spec)
    if value.get("shape", [*require_shape(spec)]) != [*require_shape(spec)]:
        raise NotAccepted(f"must be of shape {written(spec)}, not {str(value['shape'])[:100]}")
    return _check_elements(_of_raw(content, value.get("dtype", spec.dtype), spec), spec)


def _of_raw(content: bytes, name: object, spec: Input) -> NDArray[Any]:
    dtype = _dtype_of(name, spec)
    expected_bytes = math.prod(require_shape(spec)) * dtype.itemsize
    if len(content) != expected_bytes:
        raise NotAccepted(f"must have {expected_bytes} bytes, {written(spec)} of {dtype}, not {len(content)}")
    return np.frombuffer(content, dtype=dtype).reshape(require_shape(spec))


def _dtype_of(name: object, spec: Input) -> np.dtype[Any]:
    if isinstance(name, str) and name in BIG_ENDIAN:
        raise NotAccepted(f"must be little-endian; {name} is not")
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None or not np.can_cast(dtype, spec.dtype, "safe"):
        allowed = ", ".join(element for element in ELEMENTS if np.can_cast(element, spec.dtype, "safe"))
        raise NotAccepted(f"must be of a dtype that {spec.dtype} holds ({allowed}), not {str(name)[:50]}")
    return dtype


def _of_npy(content: bytes, spec: Input) -> NDArray[Any]:
    """Return the array in an npy file (NEP 1).

    The header is matched, not evaluated, and its shape is checked before memory is allocated.
    """
    size_bytes = {1: 2, 2: 4}.get(int.from_bytes(content[6:7], "little"), 0)
    start = len(MAGIC) + 2 + size_bytes
    end = start + int.from_bytes(content[start - size_bytes : start], "little")
    header = content[start : min(end, start + MAX_HEADER_BYTES)].decode("latin-1")
    dtype, order, shape = (pattern.search(header) for pattern in HEADER)
    if not (content.startswith(MAGIC) and size_bytes and dtype and order and shape):
        raise NotAccepted("must be an npy file of plain numbers, version 1.0 or 2.0, as numpy.save writes it")
    sizes = tuple(int(size) for size in shape[1].replace(",", " ").split())
    if sizes != require_shape(spec):
        raise NotAccepted(f"must be of shape {written(spec)}, not {str(list(sizes))[:100]}")
    array = _of_raw(content[end:], dtype[1], spec)
    return array.reshape(-1).reshape(sizes, order="F") if order[1] == "True" else array


def _of_lists(value: list[Any], spec: Input) -> NDArray[Any]:
    shape = require_shape(spec)
    parts: list[Any] = [value]
    for depth, size in enumerate(shape):
        kinds = set(map(type, parts))
        if kinds != {list}:
            raise NotAccepted(f"must be lists of shape {written(spec)}: it is not a list everywhere at depth {depth}")
        if set(map(len, parts)) != {size}:
            lengths = " or ".join(map(str, sorted(set(map(len, parts)))[:5]))
            raise NotAccepted(f"must be lists of shape {written(spec)}: at depth {depth} the length is {lengths}")
        parts = list(chain.from_iterable(parts))
    return _elements(parts, spec).reshape(shape)


def _elements(parts: list[Any], spec: Input) -> NDArray[Any]:
    kinds = set(map(type, parts))
    dtype = np.dtype(spec.dtype)
    allowed: set[type] = {bool} if dtype.kind == "b" else {int, float}
    if spec.nullable and dtype.kind == "f":
        allowed.add(type(None))
    if not kinds <= allowed:
        expected = "true or false" if dtype.kind == "b" else "numbers"
        wrong = next(part for part in parts if type(part) not in allowed)
        raise NotAccepted(f"must have {expected} in {written(spec)} lists, not {type_name(wrong)}")
    try:
        if dtype.kind in "iu":
            if any(part != part // 1 for part in parts if type(part) is float):  # true also for infinities and NaN
                raise NotAccepted("must have integers, without a fraction")
            return np.array([int(part) for part in parts], dtype=dtype)
        return np.array(parts, dtype=dtype if dtype.kind == "b" else np.float64)
    except OverflowError:
        raise NotAccepted(f"must have numbers that {spec.dtype} can hold") from None


def _check_elements(array: NDArray[Any], spec: Input) -> NDArray[Any]:
    """Check that all elements are finite and within the limits, and return the array in the input's dtype."""
    with np.errstate(invalid="ignore"):  # NumPy warns of a signaling NaN, which is a missing value like any other NaN
        if array.dtype.kind == "f":
            sizes = np.abs(array.astype(np.float64))
            missing = np.isnan(sizes)
            if np.isinf(sizes).any() or (not spec.nullable and missing.any()):
                raise NotAccepted("must have finite numbers" + " or null" * spec.nullable)
            widest = float(np.finfo(spec.dtype).max)
            largest = widest if spec.largest is None else min(widest, spec.largest)
            if (sizes[~missing] > largest).any():
                raise NotAccepted(f"must have numbers from {-largest:g} to {largest:g}")
        return array.astype(spec.dtype)
