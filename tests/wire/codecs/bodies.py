"""The same records as a body of each media type, made by the libraries that clients use."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Records = Sequence[dict[str, Any]]
Body = tuple[str, bytes]

BOUNDARY = "a-boundary"


def as_json(records: Records) -> Body:
    return "application/json", json.dumps({"instances": records}).encode()


def as_ndjson(records: Records) -> Body:
    return "application/x-ndjson", b"".join(json.dumps(record).encode() + b"\n" for record in records)


def as_msgpack(records: Records) -> Body:
    return "application/msgpack", msgspec.msgpack.encode({"instances": records})


def as_csv(records: Records) -> Body:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(records[0])
    for record in records:
        writer.writerow(map(cell, record.values()))
    return "text/csv; header=present", out.getvalue().encode()


def cell(value: Any) -> Any:
    """Return a value as in CSV and forms: JSON unless it is a number or text."""
    return json.dumps(value) if isinstance(value, bool | list | dict) else value


def table(records: Records) -> pa.Table:
    columns = {name: [record.get(name) for record in records] for name in named(records)}
    large = {name for name, values in columns.items() if type(values[0]) is int and values[0] >= 2**63}
    return pa.table({name: pa.array(v, pa.uint64() if name in large else None) for name, v in columns.items()})


def as_parquet(records: Records) -> Body:
    return of_table("Parquet", table(records))


def of_table(media: str, made: pa.Table) -> Body:
    sink = pa.BufferOutputStream()
    if media == "Parquet":
        pq.write_table(made, sink)
        return "application/vnd.apache.parquet", sink.getvalue().to_pybytes()
    with pa.ipc.new_stream(sink, made.schema) as stream:
        stream.write_table(made)
    return "application/vnd.apache.arrow.stream", sink.getvalue().to_pybytes()


def as_arrow(records: Records, compression: str | None = None, dictionaries: bool = False) -> Body:
    made, sink = table(records), pa.BufferOutputStream()
    if dictionaries:
        made = pa.table({name: made[name].combine_chunks().dictionary_encode() for name in made.column_names})
    with pa.ipc.new_stream(sink, made.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(made, max_chunksize=2)
    return "application/vnd.apache.arrow.stream", sink.getvalue().to_pybytes()


def named(records: Records) -> list[str]:
    """Return the names in all records, in order."""
    return list(dict.fromkeys(name for record in records for name in record))


def column(values: list[Any]) -> np.ndarray[Any, Any]:
    """Return an array of numbers, booleans, texts or times. A missing number is NaN, a missing time NaT."""
    if any(isinstance(value, np.datetime64) for value in values):
        return np.array(values, dtype="M8[us]")
    if None in values:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.array(values)


def as_npy(records: Records) -> Body:
    columns = {name: column([record.get(name) for record in records]) for name in named(records)}
    array = np.empty(len(records), dtype=[(name, v.dtype, v.shape[1:]) for name, v in columns.items()])
    for name, values in columns.items():
        array[name] = values
    return "application/x-npy", npy(array)


def npy(array: np.ndarray[Any, Any], **how: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **how)
    return out.getvalue()


def as_npz(records: Records) -> Body:
    return "application/x-npz", npz(
        **{name: column([record.get(name) for record in records]) for name in named(records)}
    )


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def as_multipart(records: Records) -> Body:
    """Return a form with a CSV file."""
    media_type, content = as_csv(records)
    return form([("table", content, media_type)])


def form(parts: Sequence[tuple[str, bytes, str | None]]) -> Body:
    """Return a form of fields, and of files for parts with a media type."""
    body = b""
    for name, content, media_type in parts:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
        head += f'; filename="file"\r\nContent-Type: {media_type}' if media_type else ""
        body += head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return f"multipart/form-data; boundary={BOUNDARY}", body + f"--{BOUNDARY}--\r\n".encode()


TYPED: dict[str, Callable[[Records], Body]] = {
    "ndjson": as_ndjson,
    "msgpack": as_msgpack,
    "parquet": as_parquet,
    "arrow": as_arrow,
    "arrow-zstd": lambda records: as_arrow(records, "zstd"),
    "arrow-dictionaries": lambda records: as_arrow(records, dictionaries=True),
}
"""Formats that have the type of a value and whether it is missing."""
ALL = TYPED | {"csv": as_csv, "multipart": as_multipart}
NUMPY: dict[str, Callable[[Records], Body]] = {"npy": as_npy, "npz": as_npz}
"""Formats without missing texts or integers."""
