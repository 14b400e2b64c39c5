"""Tests of invalid values of complex kinds in every media type: 422 with a pointer, in bounded memory."""

from __future__ import annotations

import base64
import ctypes
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from flask import Flask

from app.signature.images import RAISED_BY
from app.telemetry.process_state import give_large_blocks_back
from tests.wire.codecs import bodies
from tests.wire.codecs.cases import FRAME, GRID, MEDIA, Record, frame
from tests.wire.codecs.conftest import sent
from tests.wire.codecs.test_npy import made
from tests.wire.exchange import Answer

RAW = np.array(GRID["array"]).tobytes()
PNG = base64.b64decode(GRID["image"])
MOST_GROWTH_BYTES = 50_000_000
PICKLED = bodies.npy(np.array([[{}] * 4] * 4, dtype=object), allow_pickle=True)
TERABYTES = made("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }", RAW)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def picture(width: int, height: int, rows: bytes, *more: bytes) -> bytes:
    """Return a PNG with one byte for each pixel that declares this size."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def deflated_zeros(size_bytes: int) -> bytes:
    """Return compressed zeros: one compressed million many times, between the header and the checksum of zlib."""
    millions, rest = divmod(size_bytes, 1_000_000)
    deflate = zlib.compressobj(9, wbits=-15)
    million = deflate.compress(bytes(1_000_000)) + deflate.flush(zlib.Z_FULL_FLUSH)
    ending = deflate.compress(bytes(rest)) + deflate.flush()
    adler32 = size_bytes % 65_521 << 16 | 1
    return b"\x78\xda" + million * millions + ending + struct.pack(">I", adler32)


MEGAPIXELS = picture(10_000, 10_000, deflated_zeros(10_001 * 10_000))
TEXT_BOMB = picture(4, 4, zlib.compress(bytes(20)), chunk(b"zTXt", b"a\0\0" + deflated_zeros(500_000_000)))

BYTES: dict[str, tuple[str, bytes, str]] = {
    "array cut short": ("array", RAW[:-1], "must have 128 bytes"),
    "array too long": ("array", RAW * 2, "must have 128 bytes"),
    "array of none": ("array", b"\0", "must have 128 bytes"),
    "array of infinities": ("array", np.full(16, np.inf).tobytes(), "must have finite numbers"),
    "npy cut short": ("array", bodies.npy(np.eye(4))[:-9], "must have 128 bytes"),
    "npy of terabytes": ("array", TERABYTES, "must be of shape 4 x 4"),
    "npy pickled": ("array", PICKLED, "must be of a dtype that float64 holds"),
    "npy of another order of bytes": ("array", bodies.npy(np.eye(4, dtype=">f8")), "must be little-endian"),
    "npy of another dtype": ("array", bodies.npy(np.eye(4, dtype=complex)), "must be of a dtype that float64 holds"),
    "npy of another shape": ("array", bodies.npy(np.eye(5)), "must be of shape 4 x 4"),
    "image cut short": ("image", PNG[:-20], "must be a whole PNG, JPEG or WebP image"),
    "image of another format": ("image", b"GIF89a" + PNG, "must be a PNG, JPEG or WebP image"),
    "image of 100 megapixels": (
        "image",
        MEGAPIXELS,
        f"must have at most 25000000 pixels{RAISED_BY}, not 10000 by 10000",
    ),
    "image that says it is larger": ("image", picture(4000, 4000, zlib.compress(b"\0" * 100)), "must be a whole"),
    "image with a bomb of text": ("image", TEXT_BOMB, "must be a whole PNG, JPEG or WebP image"),
}
OBJECTS: dict[str, tuple[Any, str]] = {
    "ragged": ([*GRID["array"][:3], GRID["array"][3][:2]], "must be lists of shape 4 x 4: at depth 1"),
    "another shape": ([row[:3] for row in GRID["array"]], "must be lists of shape 4 x 4: at depth 1"),
    "flat": ([0.0] * 16, "must be lists of shape 4 x 4: at depth 0"),
    "deep": ([[[[0.0] * 4] * 4] * 4] * 4, "must have numbers in 4 x 4 lists, not a list"),
    "null": (None, "must not be missing"),
    "another shape than the array's": ({"b64": base64.b64encode(RAW).decode(), "shape": [2, 8]}, "must be of shape"),
    "big-endian": ({"b64": base64.b64encode(RAW).decode(), "dtype": ">f8"}, "must be little-endian"),
    "objects": ({"b64": base64.b64encode(RAW).decode(), "dtype": "O"}, "must be of a dtype that float64 holds"),
    "no base64": ({"b64": "%%%"}, "must be base64"),
    "nothing": ({"other": "x"}, 'must have "b64"'),
}
AS_IT_IS = MEDIA | {
    "MessagePack": bodies.as_msgpack,
    "Parquet": bodies.as_parquet,
    "Arrow": bodies.as_arrow,
    "npy": bodies.as_npy,
    "npz": bodies.as_npz,
}
"""Formats of texts that stay texts."""
AS_BYTES = ("MessagePack", "Parquet", "Arrow", "form")
AS_TEXT = ("JSON", "NDJSON", "CSV")


def body_of(media: str, record: Record) -> bodies.Body:
    """Return a record with bytes, or base64 in text formats."""
    if media == "form":
        parts: list[tuple[str, bytes, str | None]] = [
            (name, value, "application/octet-stream")
            if isinstance(value, bytes)
            else (name, str("" if value is None else bodies.cell(value)).encode(), None)
            for name, value in record.items()
        ]
        return bodies.form(parts)
    return MEDIA[media]([record])


def refused(answer: Answer, name: str, says: str) -> None:
    assert answer.status == 422, answer.content
    (error,) = answer.document["errors"]
    assert error["pointer"] in {f"#/instances/0/{name}", f"#/{name}"}
    assert error["detail"].startswith(says)


@pytest.mark.parametrize("media", [*AS_BYTES, *AS_TEXT])
@pytest.mark.parametrize("bad", BYTES)
@pytest.mark.fault("B08")
def test_bytes(service: Flask, media: str, bad: str) -> None:
    name, content, says = BYTES[bad]
    value: Any = content
    if media in AS_TEXT:
        text = base64.b64encode(content).decode()
        form = "npy" if content.startswith(b"\x93NUMPY") else "b64"
        value = text if name == "image" else {form: text}
    refused(sent(service, "grid", body_of(media, GRID | {name: value})), name, says)


@pytest.mark.parametrize("media", [*AS_BYTES, *AS_TEXT])
@pytest.mark.parametrize("bad", OBJECTS)
def test_objects(service: Flask, media: str, bad: str) -> None:
    value, says = OBJECTS[bad]
    refused(sent(service, "grid", body_of(media, GRID | {"array": value})), "array", says)


@pytest.fixture
def grown_bytes() -> Callable[[Callable[[], object]], int]:
    """Return the growth of this process's peak memory during a call.

    Blocks that were freed before go back to the system first, else the call takes them. A test that scores files in
    this process lets it keep them.
    """
    give_large_blocks_back()
    ctypes.CDLL(None).malloc_trim(0)

    def measured(call: Callable[[], object]) -> int:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
        before = peak()
        call()
        return peak() - before

    return measured


def peak() -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


@pytest.mark.parametrize("media", [*AS_BYTES, *AS_TEXT])
@pytest.mark.parametrize("bomb", ["image of 100 megapixels", "image with a bomb of text", "npy of terabytes"])
def test_decompression_bombs_allocate_no_memory(service: Flask, media: str, bomb: str, grown_bytes: Any) -> None:
    name, content, _ = BYTES[bomb]
    sent(service, "grid", body_of(media, GRID))  # imports
    value: Any = content
    if media in AS_TEXT:
        text = base64.b64encode(content).decode()
        value = text if name == "image" else {"npy": text}
    body = body_of(media, GRID | {name: value})
    assert len(body[1]) < 1_000_000
    assert grown_bytes(lambda: sent(service, "grid", body)) < MOST_GROWTH_BYTES


def test_the_measurement_of_memory_sees_allocations(grown_bytes: Any) -> None:
    assert grown_bytes(lambda: bytearray(b"x") * (2 * MOST_GROWTH_BYTES)) > MOST_GROWTH_BYTES


WIDE = pa.struct([(f"f{number}", pa.null()) for number in range(5000)])
DEEP: Any = pa.float64()
for _ in range(50):
    DEEP = pa.struct([("a", DEEP)])
REFUSED_BY_FOOTER = {("Parquet", "a struct of very many fields"): 400}
"""Each field is a column of the file, which has too many then."""
TABLES: dict[str, tuple[int, Callable[[], pa.Array]]] = {
    "a struct of very many fields": (422, lambda: pa.nulls(50_000, WIDE)),
    "a struct in fifty others": (422, lambda: pa.nulls(1, DEEP)),
    "a list of very many values": (413, lambda: pa.array([[0.0] * 6_000_000])),
    "lists of structs": (422, lambda: pa.array([[{"a": 1}]])),
    "a map": (422, lambda: pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))),
    "lists of bytes": (422, lambda: pa.array([[b"a"]])),
    "a long text in very many structs": (
        422,
        lambda: pa.StructArray.from_arrays(
            [pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["x" * 1_000_000])], ["width"]
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("media", ["Parquet", "Arrow"])
@pytest.mark.parametrize("bad", TABLES)
@pytest.mark.fault("B04")
def test_columns_that_no_kind_of_input_takes(service: Flask, media: str, bad: str, grown_bytes: Any) -> None:
    status, make = TABLES[bad]
    array = make()
    status = REFUSED_BY_FOOTER.get((media, bad), status)
    names = ["size", *(name for name in FRAME if name != "size.width")]
    columns = [array, *(pa.array([FRAME[name]] * len(array)) for name in names[1:])]
    body = bodies.of_table(media, pa.table(columns, names))
    answers: list[Answer] = []
    grown = grown_bytes(lambda: answers.append(sent(service, "frame", body)))
    assert answers[0].status == status, answers[0].content[:300]
    if status == 422:
        assert all(error["pointer"].startswith("#/instances") for error in answers[0].document["errors"])
    assert grown < MOST_GROWTH_BYTES + 8 * len(body[1])


@pytest.mark.slow
@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.fault("B01")
def test_damage_is_refused_whatever_the_kinds(service: Flask, media: str) -> None:
    """Truncated bodies and bodies with changed bytes never give a 500, and every refusal has its format."""
    noise = random.Random(26)
    records = [("frame", frame(whole=5)), ("grid", GRID), ("weather", {"city": "Rome", "sun": 9.0})]
    for model, record in records:
        content_type, good = MEDIA[media]([record])
        assert sent(service, model, (content_type, good)).status == 200
        for _ in range(150):
            bad = bytearray(good[: noise.choice([len(good), noise.randrange(1, len(good))])])
            for _ in range(noise.randint(0, 4)):
                bad[noise.randrange(len(bad))] = noise.choice((0, 1, 127, 128, 255))
            assert sent(service, model, (content_type, bytes(bad))).status in {200, 400, 413, 415, 422}


def deep(depth: int) -> Record:
    return {"a": deep(depth - 1) if depth else 1.0}


RECORDS: dict[str, tuple[Any, str, str]] = {
    "nested too deep": (deep(20), "/a" * 20, "must not be nested more than 20 deep"),
    "a list of numbers": ({"sun": [1, 2]}, "/sun", "must be a number, a string, a boolean"),
    "an integer beyond 64 bits": ({"sun": 2**64 - 1}, "/sun", "must fit in 64 bits as an integer"),
    "infinite": ({"at": {"sun": float("inf")}}, "/at/sun", "must be a finite number"),
    "null": ({"sun": None}, "/sun", "must not be missing (null or NaN): leave the name out"),
    "text": ("Rome", "", "must be an object"),
}


@pytest.mark.parametrize("media", ["JSON", "NDJSON", "MessagePack", "CSV"])
@pytest.mark.parametrize("bad", RECORDS)
def test_whole_records(service: Flask, media: str, bad: str) -> None:
    record, place, says = RECORDS[bad]
    body = bodies.as_csv([{"record": record}]) if media == "CSV" else AS_IT_IS[media]([record])
    answer = sent(service, "weather", body)
    assert answer.status == 422, answer.content
    (error,) = answer.document["errors"]
    assert error["pointer"] == f"#/instances/0{place}"
    assert error["detail"].startswith(says)


@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize("time", ["noon", "2024-13-01", "2024-01-01T25:00:00Z", "20240101", "9" * 100, ""])
def test_times(service: Flask, media: str, time: str) -> None:
    answer = sent(service, "frame", AS_IT_IS[media]([frame(timestamp=time)]))
    if media in ("CSV", "form") and time in ("", "20240101"):  # missing, and a number of seconds
        assert answer.status == 200, answer.content
    else:
        refused(answer, "timestamp", "must be ")
