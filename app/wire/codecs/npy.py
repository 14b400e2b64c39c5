"""`application/x-npy` and `application/x-npz`, NumPy's file formats, without pickle.

Source: numpy/lib/_format_impl.py (NEP 1). NumPy allocates the size that a header declares before it checks the data, so
this module reads the header itself.
"""

from __future__ import annotations

import ast
import io
import math
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.answer import Answer
from app.errors import BodyTooLarge, InvalidBody
from app.signature import Layout
from app.signature.field_errors import refused
from app.signature.tensors import batch_of
from app.wire.codecs.codec import TABLE, BodyLimits, Codec, Document, Reading, Rows, check_names, check_rows, records

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES = 10_000
MAX_NPZ_MEMBERS = 10_000
STORED_OR_DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
PLAIN_KINDS = "biufUSM"
NESTED = ("array", "image")
FIRST_SURROGATE, LAST_SURROGATE, LAST_CODE = 0xD800, 0xDFFF, 0x10FFFF
OMITTED_TEXT = {"Y": "-01-01", "M": "-01", "h": ":00"}
"""Text that ISO 8601 requires and NumPy omits, by the unit of a datetime64."""


class Npy(Codec):
    """Codec of one array: 2-D of shape (rows, features), or structured with the feature names."""

    def decode(self, body: bytes, reading: Reading) -> Rows:
        """Return the rows of a 2-D array, or the records of a structured one."""
        return _rows_of(array_of(body, reading.limits), reading)

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return the first requested output; by default, the prediction."""
        out = io.BytesIO()
        np.save(out, _without_objects(next(iter(answer.outputs.values()))), allow_pickle=False)
        return out.getvalue()


class Npz(Codec):
    """Codec of arrays in a zip file: one for each feature by its name, or a single array as in npy."""

    def decode(self, body: bytes, reading: Reading) -> Rows:
        """Return the records, or the content of a single array."""
        arrays = _members(body, reading.limits)
        names = reading.signature.names
        first, array = next(iter(arrays.items()))
        is_feature = first in names or (reading.signature.layout is Layout.RECORDS and array.dtype.names is None)
        if len(arrays) == 1 and (not is_feature or array.ndim > 1):
            return _rows_of(array, reading)
        check_names(list(arrays), reading)
        lengths = {len(array) if array.ndim else -1 for array in arrays.values()}
        if len(lengths) != 1 or -1 in lengths:
            detail = "must have arrays of one length, one for each feature by its name, or a single 2-D array"
            raise refused(TABLE, detail)
        rows = lengths.pop()
        check_rows(rows, reading.limits)
        return records({name: _values(array, name) for name, array in arrays.items()}, rows, reading.signature)

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return every output by its name, and the classes."""
        arrays = {name: _without_objects(array) for name, array in answer.outputs.items()}
        if answer.classes is not None:
            arrays["classes"] = _without_objects(np.array(answer.classes, dtype=object))
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, **arrays)
        return out.getvalue()


def array_of(content: bytes, limits: BodyLimits) -> NDArray[Any]:
    """Return the array in the bytes of an npy file, in native byte order, without a copy if possible.

    Raises:
        InvalidBody: it is not an npy file, its data has another length than its header declares, or it contains Python
            objects.
        TooManyInstances: it declares more rows than the limit.
    """
    dtype, fortran, shape, begins = _header(content)
    if dtype.hasobject:
        detail = "it holds pickled Python objects, which are never read; use a dtype of numbers or text"
        raise InvalidBody("npy", detail)
    if shape:
        check_rows(shape[0], limits)
    declared_bytes = math.prod(shape) * dtype.itemsize
    if declared_bytes != len(content) - begins:
        detail = f"its header declares {declared_bytes} bytes of values and {len(content) - begins} follow"
        raise InvalidBody("npy", detail)
    if dtype.itemsize == 0 or math.prod(shape) == 0:
        if math.prod(shape[1:]) > limits.max_instances:
            raise InvalidBody("npy", "its header declares more empty values than it may")
        return np.zeros(shape, dtype)
    array = np.frombuffer(content, dtype, offset=begins).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(content: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """Return the dtype, whether the order is Fortran's, the shape, and the position of the values."""
    if content[:6] != MAGIC or len(content) < 12 or content[6] not in (1, 2, 3):
        raise InvalidBody("npy", "it does not begin as an npy file does")
    width = 2 if content[6] == 1 else 4
    begins = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    if begins - 8 - width > MAX_HEADER_BYTES:
        raise InvalidBody("npy", f"its header is longer than {MAX_HEADER_BYTES} bytes")
    if len(content) < begins:
        raise InvalidBody("npy", "it ends within its header")
    try:
        header = ast.literal_eval(content[8 + width : begins].decode("utf-8" if content[6] == 3 else "latin-1").strip())
        fortran, shape = header["fortran_order"], header["shape"]
        dtype = np.lib.format.descr_to_dtype(header["descr"])
        parts = [field[0].base for field in dtype.fields.values()] if dtype.fields else [dtype]
        if dtype.subdtype is not None or any(p.kind in "mM" and np.datetime_data(p)[0] == "generic" for p in parts):
            raise ValueError  # `numpy.save` never writes a subarray dtype or times without a unit
    except (ValueError, TypeError, SyntaxError, LookupError, ArithmeticError, MemoryError, RecursionError):
        raise InvalidBody("npy", "its header cannot be read") from None
    is_valid = isinstance(shape, tuple) and len(shape) <= 32 and all(type(n) is int and 0 <= n < 2**62 for n in shape)
    if not is_valid or type(fortran) is not bool:
        raise InvalidBody("npy", "its header cannot be read")
    return dtype, fortran, shape, begins


def _rows_of(array: NDArray[Any], reading: Reading) -> Rows:
    signature = reading.signature
    if array.dtype.names is not None:
        if array.ndim != 1:
            raise refused(TABLE, f"must be a structured array of 1 dimension, not {array.ndim}")
        check_names(array.dtype.names, reading)
        columns = {name: _values(array[name], name) for name in array.dtype.names}
        return records(columns, len(array), signature)
    if len(signature.inputs) == 1 and array.ndim and (array.ndim != 2 or signature.inputs[0].kind in NESTED):
        return Rows([[value] for value in _values(array, signature.names[0])])
    if array.ndim != 2:
        detail = f"must be a 2-D array of shape (rows, {len(signature.inputs)}) or a structured one, not {array.ndim}-D"
        raise refused(TABLE, detail)
    is_numeric = array.dtype.kind in "fiu" and array.dtype.char != "g"
    if is_numeric and (batch := batch_of(array, signature)) is not None:
        return Rows(batch=batch)
    if array.shape[1] > len(signature.inputs):
        raise refused(TABLE, f"has {array.shape[1]} columns; the model has {len(signature.inputs)} features")
    return Rows(_values(array, None))


def _values(array: NDArray[Any], name: str | None) -> list[Any]:
    """Return the values as plain JSON values: numbers, booleans, text; dates and times in ISO 8601."""
    if array.dtype.kind not in PLAIN_KINDS or array.dtype.char == "g":
        of = "values" if name is None else f"{name[:100]!r}"
        of_dtype = f"of the dtype {str(array.dtype)[:100]}"
        raise refused(TABLE, f"has {of} {of_dtype}; numbers, booleans, text and datetime64 are taken")
    if array.dtype.kind == "S":  # a NumPy array of text would have the widest for each
        try:
            texts: list[Any] = _decode_text(array.tolist())
            return texts
        except UnicodeDecodeError:
            where = "it" if name is None else repr(name[:100])
            raise refused(TABLE, f"has text that is not UTF-8 in {where}") from None
    if array.dtype.kind == "M":
        rest = OMITTED_TEXT.get(np.datetime_data(array.dtype)[0], "")
        missing, array = np.isnat(array), np.datetime_as_string(array).astype(object) + rest
        array[missing] = None
    if array.dtype.kind == "U" and array.dtype.itemsize:
        codes = np.ascontiguousarray(array).view(np.uint32)
        surrogates = (codes >= FIRST_SURROGATE) & (codes <= LAST_SURROGATE)
        if (surrogates | (codes > LAST_CODE)).any():  # Python strings accept both
            raise refused(TABLE, "has text that is not Unicode")
    values: list[Any] = array.tolist()
    return values


def _decode_text(values: Any) -> Any:
    """Return bytes, alone or in nested lists, as text."""
    if isinstance(values, bytes):
        return values.decode("utf-8")
    if values and isinstance(values[0], bytes):
        return [value.decode("utf-8") for value in values]
    return [_decode_text(value) for value in values]


def _members(body: bytes, limits: BodyLimits) -> dict[str, NDArray[Any]]:
    if body.count(b"PK\x01\x02") > MAX_NPZ_MEMBERS:  # zipfile creates an object for each member
        raise InvalidBody("npz", f"it has more than {MAX_NPZ_MEMBERS} members")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > limits.body_bytes:
                raise BodyTooLarge(limits.body_bytes)
            if any(m.compress_type not in STORED_OR_DEFLATED or m.flag_bits & 1 for m in members):
                raise InvalidBody("npz", "its members must be stored or deflated, and not encrypted")
            contents = {member.filename: archive.read(member) for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError, LookupError):
        raise InvalidBody("npz", "it is no zip file, or one that is damaged") from None
    if not contents:
        raise InvalidBody("npz", "it holds no array")
    return {name.removesuffix(".npy"): _member(name, content, limits) for name, content in contents.items()}


def _member(name: str, content: bytes, limits: BodyLimits) -> NDArray[Any]:
    try:
        return array_of(content, limits)
    except InvalidBody as error:
        raise InvalidBody("npz", f"its member {name[:100]!r}: {error.reason}") from None


def _without_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in a dtype that needs no pickling. Mixed values become text."""
    if array.dtype != object:
        return array
    try:
        plain = np.array(array.tolist())
    except ValueError:
        plain = array
    return plain if plain.dtype.kind in "biufU" else np.array([str(value) for value in array.tolist()], dtype=np.str_)
