"""Hostile structures: files whose descriptions of themselves are expensive, and values that make decoders slow."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.wire.body import zstd
from tests.wire.codecs import bodies
from tests.wire.codecs.hostile import (
    ARROW,
    CSV,
    INFER,
    JSON,
    MESSAGEPACK,
    MIB,
    PARQUET,
    PREDICT,
    Hostile,
    chunk,
    filling,
    image,
    png_with,
    table,
)
from tests.wire.codecs.hostile_images import with_exif

PATH = "/models/digits-image/predict"
FORM = f"multipart/form-data; boundary={bodies.BOUNDARY}"

# --- MessagePack: keys with one hash

PRIME_1, PRIME_2, PRIME_5 = 11400714785074694791, 14029467366897019727, 2870177450012600261
HASH_BITS, HASH_MODULUS = 2**64, 2**61 - 1


def _rotated(numbers: Any, bits: int) -> Any:
    return numbers << bits | numbers >> (64 - bits)


def keys_with_one_hash(count: int) -> list[tuple[int, int]]:
    """Return pairs of integers whose tuples have one hash in CPython (Objects/tupleobject.c)."""
    inverse_1, inverse_2 = pow(PRIME_1, -1, HASH_BITS), pow(PRIME_2, -1, HASH_BITS)
    wanted = _rotated(np.uint64(12345 * inverse_1 % HASH_BITS), 33)  # the accumulator before the last rotation
    first = np.arange(1, 8 * count, dtype=np.uint64)
    rotated = _rotated(first * PRIME_2 + PRIME_5, 31)  # arithmetic of uint64 is modulo HASH_BITS
    second = ((wanted - rotated * PRIME_1) * inverse_2).view(np.int64)
    is_kept = (second > -HASH_MODULUS) & (second < HASH_MODULUS) & (second != -1)
    found = list(zip(first[is_kept].tolist(), second[is_kept].tolist(), strict=True))[:count]
    assert len(found) == count
    assert len({hash(key) for key in found[:10]}) == 1
    return found


def of_colliding_keys(count: int) -> bytes:
    packed = bytearray(b"\xdf" + count.to_bytes(4, "big"))
    for first, second in keys_with_one_hash(count):
        packed += b"\x92\xce" + first.to_bytes(4, "big") + b"\xd3" + second.to_bytes(8, "big", signed=True) + b"\0"
    return bytes(packed)


# --- Parquet: footers in Thrift's compact protocol


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def list_of(kind: int, content: bytes, times: int) -> bytes:
    return bytes([0xF0 | kind]) + varint(times) + content * times


def parquet_with(metadata: bytes, before: bytes = b"") -> bytes:
    return b"PAR1" + before + metadata + struct.pack("<I", len(metadata)) + b"PAR1"


I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
VERSION = b"\x15\x02"
NO_COLUMNS = b"\x19" + list_of(STRUCT, b"\x48\x01a\x15\0\0", 1)
ROWS_0 = b"\x16\0"


def of_many_elements(times: int) -> bytes:
    """Return a Parquet file whose schema has this many columns, all of them optional."""
    root = b"\x48\x01r\x15" + varint(2 * times) + b"\0"
    leaf = b"\x15\0\x25\2\x18\x01a\0"
    schema = b"\x19\xfc" + varint(times + 1) + root + leaf * times
    return parquet_with(VERSION + schema + ROWS_0 + b"\x19\x0c\0")


def of_deep_elements(depth: int) -> bytes:
    node = b"\x35\0\x18\x01a\x15\2\0"
    schema = b"\x19\xfc" + varint(depth + 1) + node * depth + b"\x15\0\x25\2\x18\x01a\0"
    return parquet_with(VERSION + schema + ROWS_0 + b"\x19\x0c\0")


def of_many_groups(times: int) -> bytes:
    """Return a Parquet file with row groups of no columns."""
    group = b"\x19\x0c\x16\0\x16\0\0"
    return parquet_with(
        VERSION + b"\x19\x1c\x48\x01r\x15\0\0" + ROWS_0 + b"\x19" + list_of(STRUCT, group, times) + b"\0"
    )


def of_many_chunks(times: int) -> bytes:
    """Return a Parquet file with one row group of column chunks that say nothing."""
    group = b"\x19" + list_of(STRUCT, b"\x26\0\0", times) + b"\x16\0\x16\0\0"
    return parquet_with(VERSION + b"\x19\x1c\x48\x01r\x15\0\0" + ROWS_0 + b"\x19\x1c" + group + b"\0")


def of_many_pairs(times: int) -> bytes:
    pairs = b"\x19" + list_of(STRUCT, b"\x18\x01a\0", times)
    return parquet_with(VERSION + b"\x19\x1c\x48\x01r\x15\0\0" + ROWS_0 + b"\x19\x0c" + pairs + b"\0")


def of_many_orders(times: int) -> bytes:
    orders = b"\x39" + list_of(STRUCT, b"\x1c\0\0", times)
    return parquet_with(VERSION + b"\x19\x1c\x48\x01r\x15\0\0" + ROWS_0 + b"\x19\x0c" + orders + b"\0")


def page_header_with(fields: bytes) -> bytes:
    """Return a Parquet file whose first page's header begins with these fields."""
    sink = io.BytesIO()
    pq.write_table(
        pa.table({f"feature{n}": np.zeros(1) for n in (1, 2)}), sink, compression="none", use_dictionary=False
    )
    whole = sink.getvalue()
    size = int.from_bytes(whole[-8:-4], "little")
    footer, pages = whole[-8 - size : -8], whole[4 : -8 - size]
    metadata = pq.ParquetFile(io.BytesIO(whole)).metadata
    chunk_ = metadata.row_group(0).column(0)
    assert chunk_.data_page_offset == 4
    long = zig(chunk_.total_compressed_size + len(fields))
    footer = footer.replace(b"\x26" + zig(chunk_.total_compressed_size) + b"\x26\x08", b"\x26" + long + b"\x26\x08")
    return b"PAR1" + fields + pages + footer + struct.pack("<I", len(footer)) + b"PAR1"


def zig(number: int) -> bytes:
    return varint(2 * number)


# --- Arrow: FlatBuffers whose tables are shared


class Flat:
    """Write FlatBuffers forward: each table comes after the tables that point to it, and is then linked."""

    def __init__(self) -> None:
        self.content = bytearray(4)

    def pad(self, to: int) -> None:
        self.content += bytes(-len(self.content) % to)

    def table(self, fields: Sequence[tuple[int, int] | None]) -> tuple[int, list[int]]:
        """Write a table with fields of (size, value). Return its position and those of its fields."""
        self.pad(8)
        vtable_at = len(self.content)
        count = len(fields)
        vtable_bytes = 4 + 2 * count
        vtable_bytes += -vtable_bytes % 8
        table_at = vtable_at + vtable_bytes
        positions, offsets, at = [], [], 4
        inline = bytearray()
        for each in fields:
            if each is None:
                offsets.append(0)
                positions.append(0)
                continue
            size, value = each
            inline += bytes(-(at) % size)
            at += -at % size
            offsets.append(at)
            positions.append(table_at + at)
            inline += value.to_bytes(size, "little")
            at += size
        self.content += struct.pack("<HH", 4 + 2 * count, at)
        for offset in offsets:
            self.content += struct.pack("<H", offset)
        self.content += bytes(table_at - len(self.content))
        assert len(self.content) == table_at
        self.content += struct.pack("<i", table_at - vtable_at) + inline
        return table_at, positions

    def point(self, at: int, to: int) -> None:
        self.content[at : at + 4] = struct.pack("<I", to - at)

    def vector(self, count: int) -> tuple[int, list[int]]:
        self.pad(4)
        at = len(self.content)
        self.content += struct.pack("<I", count) + bytes(4 * count)
        return at, [at + 4 + 4 * n for n in range(count)]

    def text(self, value: bytes) -> int:
        self.pad(4)
        at = len(self.content)
        self.content += struct.pack("<I", len(value)) + value + b"\0"
        return at


def schema_of_shared_fields(depth: int, width: int, filler_bytes: int = 0) -> bytes:
    """Return an Arrow stream whose schema has structs in structs: `width` times the same struct on each level.

    The tables are written once, and pointed to `width` times.
    """
    flat = Flat()
    root, at = flat.table([(2, 4), (1, 1), (4, 0), (8, 0)])  # version V5, type Schema, header, body length
    flat.content[0:4] = struct.pack("<I", root)
    schema, schema_at = flat.table([(2, 0), (4, 0)])
    flat.point(at[2], schema)
    vector, slots = flat.vector(1)
    flat.point(schema_at[1], vector)
    for level in range(depth):
        last = level == depth - 1
        # name, nullable, type_type (13 is a struct, 1 null), type, dictionary, children
        field, field_at = flat.table([(4, 0), (1, 1), (1, 1 if last else 13), (4, 0), None, (4, 0)])
        for slot in slots:
            flat.point(slot, field)
        flat.point(field_at[0], flat.text(b"a"))
        flat.point(field_at[3], flat.table([])[0])
        vector, slots = flat.vector(0 if last else width)
        flat.point(field_at[5], vector)
    flat.content += bytes(filler_bytes)
    flat.pad(8)
    return bytes(flat.content)


def stream_of(metadata: bytes) -> bytes:
    return b"\xff\xff\xff\xff" + struct.pack("<i", len(metadata)) + metadata + b"\xff\xff\xff\xff\0\0\0\0"


def parquet_of_schema(metadata: bytes) -> bytes:
    """Return a Parquet file with the description of an Arrow schema."""
    value = base64.b64encode(b"\xff\xff\xff\xff" + struct.pack("<i", len(metadata)) + metadata)
    pair = b"\x18\x0cARROW:schema\x18" + varint(len(value)) + value + b"\0"
    root, leaf = b"\x48\x01r\x15\2\0", b"\x15\0\x25\2\x18\x08feature1\0"
    return parquet_with(VERSION + b"\x19\x2c" + root + leaf + ROWS_0 + b"\x19\x0c\x19\x1c" + pair + b"\0")


def of_many_schemas(times: int, metadata_bytes: int) -> bytes:
    made = pa.schema([pa.field("feature1", pa.float64())], metadata={"a": "b" * metadata_bytes})
    return bytes(made.serialize()) * times


def empty_batches(times: int) -> bytes:
    made = pa.table({"feature1": np.zeros(0), "feature2": np.zeros(0)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, made.schema) as stream:
        for _ in range(times):
            stream.write_batch(pa.RecordBatch.from_arrays([pa.array(np.zeros(0))] * 2, names=["feature1", "feature2"]))
    return bytes(sink.getvalue())


def replaced_dictionaries(times: int) -> bytes:
    sink = pa.BufferOutputStream()
    schema = pa.schema([("feature1", pa.dictionary(pa.int32(), pa.string()))])
    with pa.ipc.new_stream(sink, schema) as stream:
        for n in range(times):
            words = pa.array([f"{n}"] + ["a"] * 5)
            stream.write_batch(
                pa.RecordBatch.from_arrays(
                    [pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), words)], schema=schema
                )
            )
    return bytes(sink.getvalue())


def dictionary_of_dictionaries(depth: int) -> Any:
    array = pa.array(["a" * 1000])
    for _ in range(depth):
        array = pa.StructArray.from_arrays(
            [pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, np.int32)), array)], ["a"]
        )
    return array


def members(columns: int) -> Any:
    """Return a struct of the same values many times."""
    one = pa.array(np.zeros(20_000))
    return pa.StructArray.from_arrays([one] * columns, [f"m{n}" for n in range(columns)])


TABLES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "arrow-shared-fields": lambda: (ARROW, stream_of(schema_of_shared_fields(8, 8, 4 * MIB))),
    "arrow-shared-fields-many": lambda: (ARROW, stream_of(schema_of_shared_fields(9, 9, 24 * MIB))),
    "arrow-shared-fields-small": lambda: (ARROW, stream_of(schema_of_shared_fields(5, 12, 60_000))),
    "parquet-shared-fields": lambda: (PARQUET, parquet_of_schema(schema_of_shared_fields(8, 8, 4 * MIB))),
    "arrow-many-fields": lambda: (ARROW, stream_of(schema_of_shared_fields(3, 150))),
    "arrow-schemas": lambda: (ARROW, of_many_schemas(50_000, 10)),
    "arrow-long-metadata": lambda: (ARROW, of_many_schemas(1, 30 * MIB)),
    "arrow-empty-batches": lambda: (ARROW, empty_batches(90_000)),
    "arrow-replaced-dictionaries": lambda: (ARROW, replaced_dictionaries(40_000)),
    "arrow-dictionaries-in-dictionaries": lambda: (ARROW, table(ARROW, {"feature1": dictionary_of_dictionaries(3)})),
    "arrow-struct-of-many": lambda: (ARROW, table(ARROW, {"feature1": members(150)})),
    "arrow-file": lambda: (ARROW, b"ARROW1\0\0" + bytes(30 * MIB)),
    "arrow-empty-messages": lambda: (ARROW, b"\xff\xff\xff\xff\x08\0\0\0" * 4_000_000),
    "arrow-zeros": lambda: (ARROW, bytes(30 * MIB)),
    "parquet-elements": lambda: (PARQUET, of_many_elements(900_000)),
    "parquet-deep-elements": lambda: (PARQUET, of_deep_elements(100_000)),
    "parquet-row-groups": lambda: (PARQUET, of_many_groups(1_000_000)),
    "parquet-column-chunks": lambda: (PARQUET, of_many_chunks(1_000_000)),
    "parquet-pairs": lambda: (PARQUET, of_many_pairs(1_000_000)),
    "parquet-orders": lambda: (PARQUET, of_many_orders(1_000_000)),
    "parquet-long-footer": lambda: (PARQUET, parquet_with(b"\x18" + varint(8 * 10**6) + bytes(8 * 10**6))),
    "parquet-longer-footer": lambda: (PARQUET, parquet_with(bytes(30 * MIB))),
    "parquet-page-of-truths": lambda: (PARQUET, page_header_with((b"\xbc" + b"\x11" * 30_000 + b"\0") * 1)),
    "parquet-page-of-structs": lambda: (PARQUET, page_header_with(b"\xbc" + b"\x1c" * 7)),
}


def wide_page_header() -> bytes:
    """Return fields of the header of a page: structs, each with many truths."""
    truths = b"\x11" * 32_000 + b"\0"
    fields = b"\xbc" + truths
    return fields + (b"\x1c" + truths) * 900


TABLES["parquet-page-of-many-truths"] = lambda: (PARQUET, page_header_with(wide_page_header()))


def of_tables() -> Iterator[Hostile]:
    for name, made in TABLES.items():
        media_type = PARQUET if name.startswith("parquet") else ARROW
        yield Hostile(f"structure-{name}", PREDICT, media_type, lambda made=made: made()[1], "zstd")


# --- EXIF: entries that share one long value


def exif_of(entries: int, value_bytes: int, kind: int = 7) -> bytes:
    head = b"MM\0*\0\0\0\x08" + struct.pack(">H", entries)
    begins = len(head) + 12 * entries + 4
    size = {7: 1, 5: 8, 3: 2, 4: 4, 12: 8}[kind]
    lines = b"".join(struct.pack(">HHII", n + 1, kind, value_bytes // size, begins) for n in range(entries))
    return head + lines + bytes(4 + value_bytes)


def webp_with_exif(exif: bytes) -> bytes:
    whole = image(form="WEBP", mode="RGB")
    inner = whole[12:]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([8, 0, 0, 0]) + bytes(6)
    content = b"WEBP" + extended + inner + b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) % 2)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def raw_profile(content: bytes) -> bytes:
    text = b"\nexif\n%8d\n" % len(content) + content.hex().encode() + b"\n"
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text, 9))


def long_text(size_bytes: int) -> bytes:
    return chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(size_bytes), 9))


IMAGES: dict[str, Callable[[], bytes]] = {
    "exif-shared-png": lambda: png_with(chunk(b"eXIf", exif_of(300, 8 * MIB)), 1),
    "exif-shared-webp": lambda: webp_with_exif(exif_of(300, 8 * MIB)),
    "exif-shared-rationals": lambda: png_with(chunk(b"eXIf", exif_of(20, 8 * MIB, 5)), 1),
    "exif-entries-png": lambda: png_with(chunk(b"eXIf", exif_of(60_000, 8)), 1),
    "exif-raw-profile": lambda: png_with(raw_profile(exif_of(50, 400_000)), 1),
    "exif-xmp": lambda: png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"tiff:Orientation" * 60_000), 1),
    "idat-after-end": lambda: image() + chunk(b"IDAT", bytes(MIB)) * 20,
    "gif": lambda: b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + bytes(MIB),
    "bmp": lambda: (
        b"BM" + bytes(8) + struct.pack("<I", 54) + struct.pack("<IiiHHI", 40, 60_000, 60_000, 1, 1, 1) + bytes(MIB)
    ),
    "tiff": lambda: b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + bytes(MIB),
    "palette-again": lambda: png_with(chunk(b"PLTE", bytes(768)), 60),
    "transparency": lambda: png_with(chunk(b"tRNS", bytes(256)), 60),
}


def of_images() -> Iterator[Hostile]:
    for name, make in IMAGES.items():
        form = lambda make=make: bodies.form([("image", make(), "image/png")])[1]  # noqa: E731
        yield Hostile(f"structure-image-{name}", PATH, FORM, form, "zstd")
    again = {
        "exif": lambda: png_with(chunk(b"eXIf", exif_of(2000, 8)), 1),
        "few-exif-entries": lambda: png_with(chunk(b"eXIf", exif_of(60, 8)), 1),
        "exif-jpeg": lambda: with_exif(2000),
        "exif-webp": lambda: webp_with_exif(exif_of(2000, 8)),
        "raw-profiles": lambda: png_with(raw_profile(exif_of(20_000, 8)), 1),
        "long-texts": lambda: png_with(long_text(MIB - 10), 1),
        "texts": lambda: png_with(long_text(65_000), 1),
        "four-texts": lambda: png_with(long_text(65_000), 4),
        "many-texts": lambda: png_with(long_text(MIB - 10), 40),
        "profiles": lambda: png_with(chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(65_000), 9)), 4),
    }
    for name, make in again.items():
        unit = b'["' + base64.b64encode(make()) + b'"],'
        times = 500 if name == "texts" else 1000
        fill = filling(b"[", unit, b"]", min(30 * MIB, len(unit) * times + 2))
        yield Hostile(f"structure-images-{name}", PATH, JSON, fill, "zstd")


# --- texts


HALFWAY = b"1.00000000000000011102230246251565404236316680908203125" + b"0" * 100 + b"1"


def of_texts() -> Iterator[Hostile]:
    units = {
        "halfway-numbers": b"1.00000000000000011102230246251565404236316680908203124999e-3,",
        "long-halfway-numbers": HALFWAY + b",",
        "subnormals": b"2.2250738585072011e-308,",
        "long-mantissas": b"123456789012345678901234567890123456789e-30,",
        "great-integers": b"1" + b"0" * 300 + b",",
        "many-exponents": b"1e-000000000000000000000000000000000000001,",
    }
    for name, unit in units.items():
        yield Hostile(f"structure-json-{name}", PREDICT, JSON, filling(b"[", unit, b"]"), "zstd")
        pair = b"[" + unit + unit.removesuffix(b",") + b"],"
        yield Hostile(f"structure-json-rows-of-{name}", PREDICT, JSON, filling(b"[", pair, b"]"), "zstd")
        line = unit + unit.removesuffix(b",") + b"\n"
        yield Hostile(f"structure-csv-{name}", PREDICT, CSV, filling(b"feature1,feature2\n", line, b""), "zstd")
    mlflow = "/endpoints/iris-two/invocations"
    for name, (head, tail) in {
        "split-columns": (b'{"dataframe_split":{"columns":[', b'],"data":[[1,2]]}}'),
        "split-index": (b'{"dataframe_split":{"data":[[1,2]],"index":[', b"]}}"),
        "params": (b'{"inputs":[[1,2]],"params":{"a":[', b"]}}"),
    }.items():
        for called, unit in {"names": b'"a",', "zeros": b"0,", "objects": b"{},", "lists": b"[],"}.items():
            yield Hostile(f"structure-mlflow-{name}-{called}", mlflow, JSON, filling(head, unit, tail), "zstd")
    names = b",".join(b'"n%d"' % n for n in range(15_000))
    yield Hostile(
        "structure-mlflow-every-column",
        mlflow,
        JSON,
        lambda: b'{"dataframe_split":{"columns":[' + names + b'],"data":[[' + b"0," * 14_999 + b"0]]}}",
        "zstd",
    )
    tensor = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2]}],"outputs":['
    yield Hostile("structure-tensor-outputs", INFER, JSON, filling(tensor, b'{"name":"a"},', b"]}"), "zstd")
    again = b'{"name":"prediction","parameters":{"binary_data":true}},'
    yield Hostile("structure-tensor-outputs-again", INFER, JSON, filling(tensor, again, b"]}"), "zstd")
    for model, row in {"iris-two": b"[1,2],", "digits": b"[" + b"0," * 63 + b"0],"}.items():
        yield Hostile(
            f"structure-explanations-{model}",
            f"/models/{model}/predict",
            JSON,
            filling(b'{"outputs":["explanation"],"instances":[', row, b"]}", 30_000 * 50),
            "zstd",
        )
    nested = b'{"inputs":[{"name":"x","shape":[100000,2],"datatype":"FP64","data":['
    yield Hostile("structure-tensor-nested", INFER, JSON, filling(nested, b"[[0],[0]],", b"]}]}"), "zstd")
    parameters = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP64","data":[1,2],"parameters":{"a":['
    yield Hostile("structure-tensor-parameters", INFER, JSON, filling(parameters, b"0,", b"]}}]}"), "zstd")
    values = b'{"signature_name":"serving_default","instances":['
    yield Hostile(
        "structure-tensorflow-b64",
        "/v1/models/iris-two:predict",
        JSON,
        filling(values, b'{"b64":"AAAA"},', b"]}"),
        "zstd",
    )
    yield Hostile(
        "structure-tensorflow-long-b64",
        "/v1/models/iris-two:predict",
        JSON,
        filling(values + b'{"b64":"', b"A", b'"}]}'),
        "zstd",
    )
    yield Hostile("structure-image-long-b64", PATH, JSON, filling(b'[["', b"A", b'"]]'), "zstd")
    yield Hostile("structure-image-spaced-b64", PATH, JSON, filling(b'[["', b"A ", b'"]]'), "zstd")
    yield Hostile(
        "structure-image-data-url", PATH, JSON, filling(b'[["data:image/png', b";a=b", b';base64,"]]'), "zstd"
    )
    yield Hostile("structure-image-of-numbers", PATH, JSON, filling(b"[[[", b"0,", b"0]]]"), "zstd")
    yield Hostile("structure-msgpack-one-hash", PREDICT, MESSAGEPACK, lambda: of_colliding_keys(4000))
    pairs = [b"\xde\xff\xff" + b"".join(b"\xa5n%04x" % n + b"\x91" for n in range(65_535))]
    yield Hostile("structure-msgpack-deep-maps", PREDICT, MESSAGEPACK, lambda: pairs[0], "zstd")
    keyed = b"\xdf\x00\x0f\x42\x40" + b"".join(b"\xce" + n.to_bytes(4, "big") + b"\0" for n in range(1, 8000))
    yield Hostile("structure-msgpack-integer-keys", PREDICT, MESSAGEPACK, lambda: keyed, "zstd")


def of_forms() -> Iterator[Hostile]:
    part = b'--a-boundary\r\nContent-Disposition: form-data; name="feature1"'
    heads = {
        "parameters": b'; a="b"' * 2000,
        "escapes": b'; filename="' + b'\\"' * 7000 + b'"',
        "continued": b"".join(b"; filename*%d=a" % n for n in range(900)),
        "charset": b"; filename*=UTF-8''" + b"%41" * 5000,
        "lines": b"\r\na: b" * 2500,
        "colons": b"\r\n" + b":" * 15_000,
        "quotes": b'; a="' * 3000,
        "semicolons": b";" * 15_000,
        "equals": b"=" * 15_000,
    }
    for name, head in heads.items():
        whole = (part + head + b"\r\n\r\n1\r\n") * 100 + b"--a-boundary--\r\n"
        yield Hostile(f"structure-form-{name}", PREDICT, FORM, lambda whole=whole: whole, "zstd")
    yield Hostile("structure-form-preamble", PREDICT, FORM, filling(b"", b"\r\n-", b"\r\n--a-boundary--"), "zstd")
    yield Hostile("structure-form-long-preamble", PREDICT, FORM, filling(b"", b"a", b"\r\n--a-boundary--"), "zstd")
    yield Hostile(
        "structure-form-epilogue", PREDICT, FORM, filling(part + b"\r\n\r\n1\r\n--a-boundary--", b"a", b""), "zstd"
    )
    yield Hostile("structure-form-dashes", PREDICT, f"{FORM[:30]}" + "-" * 70, filling(b"", b"-", b""), "zstd")
    yield Hostile(
        "structure-form-crs", PREDICT, FORM, filling(part + b"\r\n\r\n", b"\r", b"\r\n--a-boundary--"), "zstd"
    )
    yield Hostile(
        "structure-form-carriage-lines",
        PREDICT,
        FORM,
        filling(part + b"\r\n\r\n", b"\r\n--a-boundarx", b"\r\n--a-boundary--"),
        "zstd",
    )


def of_codings() -> Iterator[Hostile]:
    """Yield bodies whose coding is the attack."""
    frame = b"\x50\x2a\x4d\x18" + bytes(4)
    yield Hostile("structure-zstd-skippable", PREDICT, JSON, lambda: frame * 8000, "as-zstd")
    yield Hostile("structure-zstd-empty-frames", PREDICT, JSON, lambda: zstd.compress(b"") * 7000, "as-zstd")
    window = b"\x28\xb5\x2f\xfd\0\x70" + b"\x01\0\0"
    yield Hostile("structure-zstd-windows", PREDICT, JSON, lambda: window * 7000, "as-zstd")
    single = b"\x28\xb5\x2f\xfd\0\x68" + b"\x01\0\0"
    yield Hostile("structure-zstd-wide-frames", PREDICT, JSON, lambda: single * 990, "as-zstd")
    header = b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 60_000
    yield Hostile("structure-gzip-long-name", PREDICT, JSON, lambda: header, "as-gzip")
    stored = b"\0\0\0\xff\xff"
    yield Hostile("structure-deflate-empty-blocks", PREDICT, JSON, lambda: stored * 13_000, "as-deflate")
    fixed = zlib.compressobj(9, zlib.DEFLATED, -15)
    tables = fixed.compress(b"ab") + fixed.flush(zlib.Z_FULL_FLUSH)
    yield Hostile("structure-deflate-flushes", PREDICT, JSON, lambda: tables * 8000, "as-deflate")
    member = gzip.compress(b"[" + b" " * 30_000, 9)
    yield Hostile("structure-gzip-members", PREDICT, JSON, lambda: (member * 900)[:65_536], "as-gzip")


def every() -> list[Hostile]:
    """Return all bodies, by name."""
    return [*of_texts(), *of_tables(), *of_images(), *of_forms(), *of_codings()]
