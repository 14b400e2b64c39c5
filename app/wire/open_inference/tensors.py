"""Convert tensors of the Open Inference Protocol from and to JSON values or raw bytes.

Sources: inference_rest.md, "Tensor Data" and "Tensor Data Types"; Triton's extension_binary_data.md; see
docs/protocols.md.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import MalformedRequest
from app.signature.batch import json_values
from app.signature.field_errors import shown
from app.telemetry import check_deadline

DTYPES: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""The NumPy dtype of each datatype of a fixed size, little-endian as in the protocol."""
BYTES, BF16 = "BYTES", "BF16"
DATATYPES = (*DTYPES, BF16, BYTES)
TYPES_IN_JSON: dict[str, set[type]] = {"b": {bool}, "f": {int, float}, "O": {str}}
"""The Python types of JSON values that each dtype kind allows. All other kinds allow integers."""
ELEMENTS_AT_ONCE = 10_000
LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a request. Its dtype is object for BYTES and for missing values.

    `position` is its index in the request's inputs. `flat` is true if its JSON data is one flat list: then pointers of
    errors are positions in that list.
    """

    name: str
    array: NDArray[Any]
    position: int
    flat: bool = False

    @property
    def pointer(self) -> str:
        """The pointer to the tensor."""
        return f"#/inputs/{self.position}"

    def pointer_to(self, *place: int) -> str:
        """Return the pointer to an element."""
        if self.flat and self.array.size:
            place = (int(np.ravel_multi_index(place + (0,) * (self.array.ndim - len(place)), self.array.shape)),)
        return "/".join([f"{self.pointer}/data", *map(str, place)])


def printable(value: object) -> str:
    """Return a value of the request as short JSON for a message."""
    if isinstance(value, list | dict):
        return str(shown(value))
    return json.dumps(shown(value), ensure_ascii=False)


def from_json(nested: Any, datatype: str, shape: Sequence[int], pointer: str) -> tuple[NDArray[Any], bool]:
    """Return the array of a tensor's JSON `data`, and whether `data` is a flat list for a shape of several dimensions.

    Raises:
        MalformedRequest: the values do not fit the shape or the datatype.
    """
    if datatype == BF16:
        raise MalformedRequest(f"{pointer}/datatype", "BF16 travels as binary data only: JSON has no form for it")
    values, flat = _flatten(nested, shape, pointer)
    return _array(values, datatype, pointer).reshape(shape), flat


def _flatten(nested: Any, shape: Sequence[int], pointer: str) -> tuple[list[Any], bool]:
    if not isinstance(nested, list):
        raise MalformedRequest(f"{pointer}/data", f"must be a list, not {printable(nested)}")
    if not (nested and isinstance(nested[0], list) and len(shape) > 1):
        if len(nested) != math.prod(shape):
            detail = f"has {len(nested)} elements; the shape {list(shape)} says {math.prod(shape)}"
            raise MalformedRequest(f"{pointer}/data", detail)
        return nested, len(shape) > 1
    lists: list[Any] = [nested]
    for depth, length in enumerate(shape):
        at = next((at for at, part in enumerate(lists) if type(part) is not list or len(part) != length), None)
        if at is not None:
            has = f"has {len(lists[at])} elements" if type(lists[at]) is list else f"is {printable(lists[at])}"
            detail = f"{has}; the shape {list(shape)} says a list of {length}"
            raise MalformedRequest(_place(at, shape[:depth], pointer), detail)
        lists = list(itertools.chain.from_iterable(lists))
    return lists, False


def _place(at: int, shape: Sequence[int], pointer: str) -> str:
    return "/".join([f"{pointer}/data", *(map(str, np.unravel_index(at, tuple(shape))) if shape else ())])


def _array(values: list[Any], datatype: str, pointer: str) -> NDArray[Any]:
    dtype = np.dtype(DTYPES.get(datatype, object))
    types = set(map(type, values))
    if dtype.kind in "iu" and float in types:  # 5.0 is 5, as in JSON Schema
        values = [int(v) if type(v) is float and v.is_integer() else v for v in values]
        types = set(map(type, values))
    allowed = TYPES_IN_JSON.get(dtype.kind, {int}) | {type(None)}
    if not types <= allowed:
        at = next(at for at, value in enumerate(values) if type(value) not in allowed)
        detail = f"has {printable(values[at])} as element {at}, which is no {datatype}"
        raise MalformedRequest(f"{pointer}/data", detail)
    if dtype.kind in "iu":
        limits = np.iinfo(DTYPES[datatype])
        numbers = [value for value in values if value is not None]
        for value in (min(numbers, default=0), max(numbers, default=0)):
            if not limits.min <= value <= limits.max:
                raise MalformedRequest(f"{pointer}/data", f"has {printable(value)}, which is beyond {datatype}")
    if dtype.kind != "f":
        return np.array(values, dtype=object if type(None) in types else dtype)
    try:
        wide = np.array(values, dtype=np.float64)
    except OverflowError:
        raise MalformedRequest(f"{pointer}/data", f"has an integer too large for {datatype}") from None
    with np.errstate(over="ignore"):
        array = wide.astype(dtype, copy=False)
    if array is not wide and (lost := np.isinf(array) & np.isfinite(wide)).any():
        raise MalformedRequest(f"{pointer}/data", f"has {wide[lost][0]}, which is beyond {datatype}")
    return array


def from_binary(raw: memoryview, datatype: str, shape: Sequence[int], pointer: str) -> NDArray[Any]:
    """Return the array in the raw bytes of one tensor: little-endian, row-major.

    For BYTES the dtype is object: strings, or bytes that are not UTF-8.

    Raises:
        MalformedRequest: the number of bytes does not fit the shape and datatype, or the bytes are not valid values.
    """
    if datatype == BYTES:
        return _strings(raw, math.prod(shape), pointer).reshape(shape)
    dtype = np.dtype("<u2" if datatype == BF16 else DTYPES[datatype])
    if len(raw) != math.prod(shape) * dtype.itemsize:
        detail = f"{datatype} of shape {list(shape)} has {math.prod(shape) * dtype.itemsize}"
        raise MalformedRequest(pointer, f"has {len(raw)} bytes of binary data; {detail}")
    if datatype == BF16:
        return (np.frombuffer(raw, dtype).astype("<u4") << 16).view("<f4").reshape(shape)
    if datatype == "BOOL":
        numbers = np.frombuffer(raw, np.uint8)
        if (numbers > 1).any():
            raise MalformedRequest(pointer, f"has a byte {int(numbers.max())} in its BOOL data; allowed: 0 and 1")
        return numbers.astype(np.bool_).reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape)


def _strings(raw: memoryview, count: int, pointer: str) -> NDArray[Any]:
    """Return the elements of BYTES. Before each is its length, in 4 bytes, little-endian."""
    if count * LENGTH.size > len(raw):  # refuse before allocating
        detail = f"has {len(raw)} bytes of binary data, too few for the {count} elements that its shape says"
        raise MalformedRequest(pointer, detail)
    elements: list[str | bytes] = []
    at = 0
    while at < len(raw):
        if len(elements) == count:
            detail = f"has {len(raw) - at} bytes after the {count} elements that its shape says"
            raise MalformedRequest(pointer, detail)
        length = LENGTH.unpack_from(raw, at)[0] if at + LENGTH.size <= len(raw) else len(raw)
        at += LENGTH.size
        if at + length > len(raw):
            raise MalformedRequest(pointer, f"ends within element {len(elements)} of its BYTES data")
        if len(elements) % ELEMENTS_AT_ONCE == 0:
            check_deadline()
        elements.append(text_of(bytes(raw[at : at + length])))
        at += length
    if len(elements) != count:
        raise MalformedRequest(pointer, f"has {len(elements)} elements of BYTES data; its shape says {count}")
    return np.array(elements, dtype=object)


def text_of(element: bytes) -> str | bytes:
    """Return an element of BYTES as a string, or as bytes if it is not UTF-8."""
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError:
        return element


def to_json(array: NDArray[Any]) -> list[Any]:
    """Return the elements in one flat list, row-major, with None for NaN and infinities."""
    return json_values(array.ravel())


def to_binary(array: NDArray[Any]) -> bytes:
    """Return the raw bytes: little-endian, row-major. In an object array, each string follows its length."""
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()
    encoded = [b"" if value is None else str(value).encode("utf-8") for value in array.ravel().tolist()]
    return b"".join(part for element in encoded for part in (LENGTH.pack(len(element)), element))
