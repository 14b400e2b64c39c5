"""Bodies of at most 64 KB, perhaps compressed, that are expensive to decode.

Each is a document of some media type, filled with one repeated unit up to the limit of a body's length.
"""

from __future__ import annotations

import base64
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from app.wire.body import zstd
from tests.wire.codecs import bodies

LARGEST_SENT_BYTES = 64 * 1024
MADE = "as-"
BODY_BYTES = 32 * 2**20
MIB = 2**20
LONG_UNIT_BYTES = 15
"""With longer units, 64 KB of gzip do not decompress to the longest body."""
JSON, CSV, NPY, NPZ = "application/json", "text/csv", "application/x-npy", "application/x-npz"
NDJSON, MESSAGEPACK = "application/x-ndjson", "application/msgpack"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
PREDICT = "/models/iris-two/predict"
INFER = "/v2/models/iris-two/infer"


@dataclass(frozen=True, slots=True)
class Hostile:
    """One body: its URL, its media type, and its content before compression."""

    name: str
    path: str
    media_type: str
    make: Callable[[], bytes]
    coding: str = ""
    """The coding that it is compressed with, or, after `MADE`, that `make` has compressed it with."""
    header_bytes: int | None = None
    """The length of the JSON before the raw tensors of the Open Inference Protocol."""

    def request(self) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body."""
        headers = {"Content-Type": self.media_type, "Accept": JSON}
        if self.coding:
            headers["Content-Encoding"] = self.coding.removeprefix(MADE)
        if self.header_bytes is not None:
            headers["Inference-Header-Content-Length"] = str(self.header_bytes)
        return headers, compressed(self.make, self.coding)


@lru_cache(maxsize=4)
def compressed(make: Callable[[], bytes], coding: str) -> bytes:
    """Return the body in a content coding."""
    content = make()
    if coding == "gzip":
        return gzip.compress(content, 9)
    if coding == "deflate":
        return zlib.compress(content, 9)
    return bytes(zstd.compress(content, 3)) if coding == "zstd" else content


def filled(head: bytes, unit: bytes, tail: bytes, size_bytes: int = BODY_BYTES) -> bytes:
    """Return a document of one repeated unit, about as long as allowed, without a comma after the last."""
    times = max(1, (size_bytes - len(head) - len(tail)) // len(unit))
    return head + (unit * times).removesuffix(b",") + tail


def filling(head: bytes, unit: bytes, tail: bytes, size_bytes: int = BODY_BYTES) -> Callable[[], bytes]:
    return lambda: filled(head, unit, tail, size_bytes)


UNITS = {
    "zeros": b"0,",
    "nulls": b"null,",
    "texts": b'"",',
    "fractions": b"0.5,",
    "not-numbers": b"NaN,",
    "slow-numbers": b"1e-300,",
    "lists": b"[],",
    "objects": b"{},",
    "rows": b"[0,0],",
    "long-rows": b"[0,0,0,0,0,0,0,0],",
    "records": b'{"feature1":0,"feature2":0},',
    "strange-records": b'{"a":0},',
    "bad-rows": b'[0,"x"],',
    "base64-objects": b'{"b64":""},',
    "escapes": b'"\\u0000",',
    "quotes": b'"\\"",',
}
"""Units that fill JSON."""
ENVELOPES = {
    "bare": (PREDICT, b"[", b"]"),
    "instances": (PREDICT, b'{"instances":[', b"]}"),
    "tensorflow-instances": ("/v1/models/iris-two:predict", b'{"instances":[', b"]}"),
    "tensorflow-columns": ("/v1/models/iris-two:predict", b'{"inputs":{"feature1":[', b'],"feature2":[0]}}'),
    "mlflow-split": ("/endpoints/iris-two/invocations", b'{"dataframe_split":{"data":[', b"]}}"),
    "mlflow-records": ("/endpoints/iris-two/invocations", b'{"dataframe_records":[', b"]}"),
    "mlflow-columns": ("/endpoints/iris-two/invocations", b'{"inputs":{"feature1":[', b'],"feature2":[0]}}'),
    "open-inference-data": (
        INFER,
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[',
        b"]}]}",
    ),
    "open-inference-shape": (
        INFER,
        b'{"inputs":[{"name":"x","datatype":"FP64","data":[0],"shape":[',
        b"]}]}",
    ),
}
"""Envelopes for JSON: the URL, and the text before and after the units."""


def of_json() -> Iterator[Hostile]:
    for number, (place, (path, head, tail)) in enumerate(ENVELOPES.items()):
        some = [*UNITS.items()] if number < 2 else [*UNITS.items()][number % 2 :: 2]
        for name, unit in some:
            coding = "gzip" if len(unit) < LONG_UNIT_BYTES else "zstd"
            yield Hostile(f"json-{place}-{name}", path, JSON, filling(head, unit, tail), coding)
    odd = {
        "deep-lists": (b"", b"[", b""),
        "deep-objects": (b"", b'{"a":', b"0"),
        "one-text": (b'"', b"a", b'"'),
        "one-text-of-commas": (b'[["', b",[", b'"]]'),
        "one-text-of-quotes": (b'[["', b'\\",[', b'"]]'),
        "one-number": (b"[[", b"9", b",0]]"),
        "one-fraction": (b"[[0.", b"3", b",0]]"),
        "one-member-again": (b"{", b'"a":0,', b"}"),
        "white-space": (b"[", b" ", b"]"),
        "lines": (b"[", b"\n", b"]"),
        "outputs": (b'{"instances":[[1,2]],"outputs":[', b'"prediction",', b"]}"),
        "beside-instances": (b'{"instances":[[1,2]],"x":[', b"0,", b"]}"),
        "half-surrogates": (b"[", b'"\\ud800",', b"]"),
        "cut-short": (b"[", b"[0,0],", b""),
    }
    for name, (head, unit, tail) in odd.items():
        for coding in ("gzip", "deflate", "zstd"):
            yield Hostile(f"json-{name}-{coding}", PREDICT, JSON, filling(head, unit, tail), coding)
    yield Hostile(
        "json-many-members",
        PREDICT,
        JSON,
        lambda: b"{" + b",".join(b'"%d":0' % n for n in range(7000)) + b"}",
    )


def of_lines() -> Iterator[Hostile]:
    lines = {
        "empty": b"\n",
        "blank": b" \n",
        "carriage-returns": b"\r\n",
        "zeros": b"0\n",
        "rows": b"[0,0]\n",
        "records": b'{"feature1":0,"feature2":0}\n',
        "bad-rows": b'[0,"x"]\n',
        "wide": b"[" + b"0," * 500_000 + b"0]\n",
        "objects": b"{}\n",
        "no-json": b"x\n",
    }
    for name, unit in lines.items():
        for coding in ("deflate", "zstd") if len(unit) < LONG_UNIT_BYTES else ("zstd",):
            yield Hostile(f"ndjson-{name}-{coding}", PREDICT, NDJSON, filling(b"", unit, b""), coding)
    cells = {
        "empty-lines": b"\n",
        "carriage-returns": b"\r",
        "both": b"\r\n",
        "blank-lines": b" \n",
        "commas": b",",
        "rows": b"0,0\n",
        "lone-cells": b"0\n",
        "wide-rows": b"0," * 1000 + b"0\n",
        "quotes": b'""\n',
        "quoted-commas": b'"",',
        "quoted-lines": b'"\n",',
        "bad-rows": b"x,y\n",
        "spaces": b" ",
        "long-numbers": b"9" * 5000 + b",0\n",
    }
    for name, unit in cells.items():
        for header in (b"", b"feature1,feature2\n", b'"feature1",feature2\n'):
            called = {0: "bare", 18: "headed"}.get(len(header), "quoted")
            yield Hostile(f"csv-{called}-{name}", PREDICT, CSV, filling(header, unit, b"\n"), "gzip")
    yield Hostile("csv-open-quote", PREDICT, CSV, filling(b'"', b"a,", b""), "gzip")


def of_messagepack() -> Iterator[Hostile]:
    units = {
        "nils": b"\xc0",
        "timestamps-4": b"\xd6\xff\0\0\0\0",
        "timestamps-8": b"\xd7\xff" + bytes(8),
        "timestamps-12": b"\xc7\x0c\xff" + bytes(12),
        "lists": b"\x90",
        "maps": b"\x80",
        "rows": b"\x92\0\0",
        "doubles": b"\xcb" + bytes(8),
        "halves": b"\xca\x3f\0\0\0",
        "empty-texts": b"\xa0",
        "short-texts": b"\xa1a",
        "texts-8": b"\xd9\0",
        "texts-32": b"\xda\0\0",
        "long-texts": b"\xd9\x28" + b"a" * 40,
        "bytes": b"\xc4\0",
        "integers": b"\xcd\xff\xff",
        "extensions": b"\xd4\x05\0",
        "one-pair-maps": b"\x81\xa1a\0",
        "lists-and-texts": b"\x90\xd9\x0a" + b"a" * 10,
        "nested": b"\x91",
        "unused": b"\xc1",
    }
    for name, unit in units.items():
        times = BODY_BYTES // len(unit) - 10
        whole = b"\xdd" + times.to_bytes(4, "big")
        coding = "gzip" if len(unit) < LONG_UNIT_BYTES else "zstd"
        yield Hostile(f"msgpack-bare-{name}", PREDICT, MESSAGEPACK, filling(whole, unit, b""), coding)
        envelope = b"\x81\xa9instances" + whole
        yield Hostile(f"msgpack-instances-{name}", PREDICT, MESSAGEPACK, filling(envelope, unit, b""), "zstd")
    yield Hostile("msgpack-promises", PREDICT, MESSAGEPACK, lambda: b"\xdd\xff\xff\xff\xff")
    yield Hostile("msgpack-promised-maps", PREDICT, MESSAGEPACK, lambda: b"\xdf\xff\xff\xff\xff" * 10_000)


def npy(descr: str, shape: str, values: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values


def zipped(*members: bytes, times: int = 1) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, member in enumerate(members * times):
            archive.writestr(f"{number}.npy", member)
    return out.getvalue()


ARRAYS: dict[str, Callable[[], bytes]] = {
    "promise": lambda: npy("'<f8'", "(100000000000, 2)"),
    "empty-rows": lambda: npy("'<f8'", "(100000000, 0)"),
    "no-rows": lambda: npy("'<f8'", "(0, 1000000000)"),
    "empty-texts": lambda: npy("'<U0'", "(1000000000,)"),
    "wide": lambda: npy("'<f8'", f"(1, {4 * MIB - 100})", bytes(32 * MIB - 800)),
    "bytes": lambda: npy("'|i1'", f"({32 * MIB - 200},)", bytes(32 * MIB - 200)),
    "rows-of-bytes": lambda: npy("'|i1'", "(100000, 300)", bytes(30_000_000)),
    "wide-bytes": lambda: npy("'|i1'", f"(2, {16 * MIB - 100})", bytes(32 * MIB - 200)),
    "texts": lambda: npy("'<U1'", "(100000, 80)", bytes(32_000_000)),
    "small-texts": lambda: npy("'|S1'", "(100000, 300)", bytes(30_000_000)),
    "times": lambda: npy("'<M8[s]'", "(100000, 40)", bytes(32_000_000)),
    "truths": lambda: npy("'|b1'", "(100000, 300)", bytes(30_000_000)),
    "members": lambda: npy(str([(f"f{n}", "<f8") for n in range(400)]), "(10000,)", bytes(32_000_000)),
    "member-times": lambda: npy(str([(f"feature{n}", "<M8[s]") for n in (1, 2)]), "(100000,)", bytes(1_600_000)),
    "dimensions": lambda: npy("'|i1'", str((1,) * 32), b"\0"),
    "deep-header": lambda: npy("(" * 5000, "()"),
}


def of_arrays() -> Iterator[Hostile]:
    for name, make in ARRAYS.items():
        yield Hostile(f"npy-{name}", PREDICT, NPY, make, "gzip")
        yield Hostile(f"npz-{name}", PREDICT, NPZ, lambda make=make: zipped(make()))
    one = npy("'<f8'", "(1,)", bytes(8))
    yield Hostile("npz-small-members", PREDICT, NPZ, lambda: zipped(one, times=9000), "zstd")
    yield Hostile("npz-many-members", PREDICT, NPZ, lambda: zipped(b"", times=10_001), "zstd")
    yield Hostile("npz-in-npz", PREDICT, NPZ, lambda: zipped(zipped(bytes(30 * MIB))))
    yield Hostile("npz-bomb", PREDICT, NPZ, lambda: zipped(bytes(60 * MIB)))


def table(media_type: str, columns: dict[str, Any], **how: Any) -> bytes:
    made, sink = pa.table(columns), pa.BufferOutputStream()
    if media_type == PARQUET:
        pq.write_table(made, sink, **({"compression": "zstd"} | how))
    else:
        with pa.ipc.new_stream(sink, made.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
            stream.write_table(made, **how)
    return bytes(sink.getvalue())


TABLES: dict[str, Callable[[], dict[str, Any]]] = {
    "nulls": lambda: {"feature1": pa.nulls(1_000_000), "feature2": pa.nulls(1_000_000)},
    "zeros": lambda: {name: np.zeros(1_000_000) for name in ("feature1", "feature2")},
    "just-the-rows": lambda: {name: np.zeros(100_000) for name in ("feature1", "feature2")},
    "columns": lambda: {f"column{n}": pa.nulls(1) for n in range(300)},
    "texts": lambda: {name: pa.array(["a" * 10] * 20_000) for name in ("feature1", "feature2")},
    "one-text": lambda: {"feature1": pa.array(["a" * 30 * MIB]), "feature2": pa.array([""])},
    "times": lambda: {name: pa.array(np.zeros(100_000, "M8[ns]")) for name in ("feature1", "feature2")},
    "days": lambda: {name: pa.array([0] * 100_000, pa.date32()) for name in ("feature1", "feature2")},
    "decimals": lambda: {name: pa.array([0] * 100_000, pa.decimal128(38)) for name in ("feature1", "feature2")},
    "lists": lambda: {name: pa.array([[0] * 20] * 15_000) for name in ("feature1", "feature2")},
    "wide-lists": lambda: {name: pa.array([[0] * 1_000_000]) for name in ("feature1", "feature2")},
    "empty-lists": lambda: {name: pa.array([[]] * 100_000) for name in ("feature1", "feature2")},
    "structs": lambda: {"feature1": pa.array([{f"m{n}": 0 for n in range(50)}] * 20_000)},
    "dictionary": lambda: {"feature1": pa.array(["a"] * 100_000).dictionary_encode()},
    "truths": lambda: {name: pa.array([True] * 100_000) for name in ("feature1", "feature2")},
}


def of_tables() -> Iterator[Hostile]:
    for name, columns in TABLES.items():
        for called, media_type in (("arrow", ARROW), ("parquet", PARQUET)):
            make = lambda media_type=media_type, columns=columns: table(media_type, columns())  # noqa: E731
            yield Hostile(f"{called}-{name}", PREDICT, media_type, make, "zstd")
    many = {name: np.zeros(20_000) for name in ("feature1", "feature2")}
    yield Hostile("arrow-batches", PREDICT, ARROW, lambda: table(ARROW, many, max_chunksize=20), "gzip")
    yield Hostile("parquet-groups", PREDICT, PARQUET, lambda: table(PARQUET, many, row_group_size=10), "gzip")


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def image(size: tuple[int, int] = (1, 1), form: str = "PNG", mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, form)
    return stream.getvalue()


def png_with(part: bytes, times: int) -> bytes:
    whole = image()
    return whole[:33] + part * times + whole[33:]


def jpeg_with(part: bytes, times: int) -> bytes:
    whole = image(form="JPEG")
    return whole[:2] + part * times + whole[2:]


IMAGES: dict[str, Callable[[], bytes]] = {
    "texts": lambda: png_with(chunk(b"tEXt", b"a\0b"), 1_000_000),
    "long-texts": lambda: png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(MIB), 9)), 500),
    "empty-pixels": lambda: png_with(chunk(b"IDAT"), 1_000_000),
    "unknown-chunks": lambda: png_with(chunk(b"abCd"), 1_000_000),
    "frames": lambda: png_with(chunk(b"fcTL", bytes(26)), 500_000),
    "profiles": lambda: png_with(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(MIB), 9)), 20),
    "comments": lambda: jpeg_with(b"\xff\xfe\0\2", 1_000_000),
    "applications": lambda: jpeg_with(b"\xff\xe5\0\2", 1_000_000),
    "tables": lambda: jpeg_with(b"\xff\xdb\0\x43\0" + bytes(64), 100_000),
    "fills": lambda: jpeg_with(b"\xff", 4_000_000),
    "large-png": lambda: image((5000, 4000)),
    "larger-png": lambda: image((30_000, 30_000)),
    "large-jpeg": lambda: image((2000, 2000), "JPEG"),
    "large-webp": lambda: image((3000, 3000), "WEBP"),
}


def of_images() -> Iterator[Hostile]:
    path = "/models/digits-image/predict"
    for name, make in IMAGES.items():
        form = lambda make=make: bodies.form([("image", make(), "image/png")])[1]  # noqa: E731
        yield Hostile(f"image-{name}", path, f"multipart/form-data; boundary={bodies.BOUNDARY}", form, "gzip")
    for form, times in (("PNG", 100_000), ("JPEG", 30_000), ("WEBP", 100_000)):
        encoded = base64.b64encode(image(form=form))
        unit = b'["' + encoded + b'"],'
        yield Hostile(f"images-{form}", path, JSON, filling(b"[", unit, b"]", len(unit) * times + 2), "gzip")
        wide = b'["' + base64.b64encode(image((200, 200), form)) + b'"],'
        yield Hostile(f"images-200-{form}", path, JSON, filling(b"[", wide, b"]", 8 * MIB), "zstd")
    raw = image()
    packed = b"\x91\xc4" + bytes([len(raw)]) + raw
    count = b"\xdd" + (100_000).to_bytes(4, "big")
    yield Hostile("images-in-msgpack", path, MESSAGEPACK, lambda: count + packed * 100_000, "gzip")
    parts = [(f"f{n}", b"0", None) for n in range(1000)]
    form_type = f"multipart/form-data; boundary={bodies.BOUNDARY}"
    yield Hostile("form-parts", PREDICT, form_type, lambda: bodies.form(parts * 30)[1], "zstd")
    yield Hostile("form-boundaries", PREDICT, form_type, filling(b"", b"--a-boundary\r\n", b"--"), "gzip")
    yield Hostile("form-lines", PREDICT, form_type, filling(b"--a-boundary\r\n", b"a: b\r\n", b"--"), "gzip")
    lines, numbers = ("t", b"\n" * 30 * MIB, "text/csv"), ("feature1", b"[" + b"0," * 15 * MIB, None)
    yield Hostile("form-of-csv", PREDICT, form_type, lambda: bodies.form([lines])[1], "gzip")
    yield Hostile("form-of-json", PREDICT, form_type, lambda: bodies.form([numbers])[1], "gzip")


def of_tensors() -> Iterator[Hostile]:
    for datatype, shape, size_bytes in (
        ("BYTES", "[8000000]", 32_000_000),
        ("BYTES", "[100000,80]", 32_000_000),
        ("BYTES", "[100000,2]", 800_000),
        ("BYTES", "[4000000,2]", 32_000_000),
        ("FP64", "[2000000,2]", 32_000_000),
        ("FP64", "[100000,2]", 1_600_000),
        ("INT8", "[16000000,2]", 32_000_000),
        ("BOOL", "[100000,320]", 32_000_000),
        ("BF16", "[8000000,2]", 32_000_000),
        ("FP16", "[100000,160]", 32_000_000),
    ):
        head = (
            f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}",'
            f'"parameters":{{"binary_data_size":{size_bytes}}}}}]}}'
        ).encode()
        for coding in ("gzip", "zstd"):
            yield Hostile(
                f"tensor-{datatype}-{shape}-{coding}",
                INFER,
                "application/octet-stream",
                lambda head=head, size_bytes=size_bytes: head + bytes(size_bytes),
                coding,
                len(head),
            )


def every() -> list[Hostile]:
    """Return all bodies, by name."""
    return [*of_json(), *of_lines(), *of_messagepack(), *of_arrays(), *of_tables(), *of_images(), *of_tensors()]
