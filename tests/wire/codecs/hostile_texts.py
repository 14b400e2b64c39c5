"""Hostile bodies of text: one character that makes all others four bytes wide, very long cells, members of gzip."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator

from tests.wire.codecs import bodies
from tests.wire.codecs.hostile import (
    BODY_BYTES,
    CSV,
    INFER,
    JSON,
    MESSAGEPACK,
    MIB,
    NDJSON,
    PREDICT,
    Hostile,
    filled,
    filling,
)

WIDE = "\U0001f427".encode()
"""A character beyond the first plane: Python stores each character of a string with one of these in 4 bytes."""
FORM = f"multipart/form-data; boundary={bodies.BOUNDARY}"
ROWS = b'{"instances":['


def of_wide_texts() -> Iterator[Hostile]:
    """Yield texts of the maximal length with one wide character at one end."""
    ends = {"first": (WIDE, b""), "last": (b"", WIDE)}
    for name, (before, after) in ends.items():
        text = filled(before, b"a", after, BODY_BYTES - 200)
        count = len(text).to_bytes(4, "big")
        made: dict[str, tuple[str, Callable[[], bytes]]] = {
            "json": (JSON, lambda text=text: b'["' + text + b'"]'),
            "json-value": (JSON, lambda text=text: b'{"feature1":"' + text + b'","feature2":0}'),
            "json-name": (JSON, lambda text=text: b'{"' + text + b'":0}'),
            "json-not-strict": (JSON, lambda text=text: b'[NaN,"' + text + b'"]'),
            "ndjson": (NDJSON, lambda text=text: b'"' + text + b'"\n'),
            "csv": (CSV, lambda text=text: text),
            "csv-quoted": (CSV, lambda text=text: b'"' + text + b'",0\n'),
            "csv-lines": (CSV, lambda before=before, after=after: filled(before, b"0,0\n", after, MIB)),
            "msgpack": (MESSAGEPACK, lambda text=text, count=count: b"\x91\xdb" + count + text),
            "msgpack-name": (MESSAGEPACK, lambda text=text, count=count: b"\x81\xdb" + count + text + b"\0"),
            "form": (FORM, lambda text=text: bodies.form([("feature1", text, None), ("feature2", b"0", None)])[1]),
        }
        for form, (media_type, make) in made.items():
            yield Hostile(f"wide-{name}-{form}", PREDICT, media_type, make, "zstd")


def of_documents() -> Iterator[Hostile]:
    """Yield JSON and MessagePack filled with values that cost more than numbers."""
    units = {
        "long-fractions": b"0." + b"3" * 300 + b",",
        "long-integers": b"9" * 4000 + b",",
        "exponents": b"1e99,",
        "small-exponents": b"7e-99,",
        "surrogates": b'"\\ud83d\\udc27",',
        "wide-texts": b'"' + WIDE + b'",',
        "long-names": b'{"' + b"n" * 1000 + b'":0},',
        "nested-records": b'{"feature1":{"a":{"b":{}}},"feature2":0},',
        "data-urls": b'["data:image/png;base64,AAAA",0],',
        "dates": b'["2020-01-01T00:00:00Z",0],',
        "minus-zeros": b"[-0.0,-0],",
        "deep-pairs": b"[[[[0]]]],",
    }
    for name, unit in units.items():
        yield Hostile(f"more-json-{name}", PREDICT, JSON, filling(ROWS, unit, b"]}"), "zstd")
    lists = {"instances-again": b'"instances":[[1,2]],', "escaped-names": b'"\\u0061\\u0062":0,'}
    for name, unit in lists.items():
        yield Hostile(f"more-json-{name}", PREDICT, JSON, filling(b"{", unit, b"}"), "zstd")
    members = ",".join(f'"n{number}":0' for number in range(100_000)).encode()
    yield Hostile("more-json-every-name", PREDICT, JSON, lambda: b"{" + members + b"}", "zstd")
    deep = b"[" * 500 + b"]" * 500 + b","
    yield Hostile("more-json-deep-and-wide", PREDICT, JSON, filling(b"[", deep, b"]", 8 * MIB), "zstd")
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}
    inputs = json.dumps(tensor).encode() + b","
    yield Hostile("tensors-again", INFER, JSON, filling(b'{"inputs":[', inputs, b"]}"), "zstd")
    empty = b'{"name":"x","shape":[0],"datatype":"BYTES","data":[]},'
    yield Hostile("tensors-empty", INFER, JSON, filling(b'{"inputs":[', empty, b"]}"), "zstd")
    data = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"BYTES","data":['
    yield Hostile("tensors-of-texts", INFER, JSON, filling(data, b'"aaaa",', b"]}]}"), "zstd")
    words = b"\xde\xff\xff" + b"".join(b"\xa4%04x\0" % number for number in range(65_535))
    yield Hostile("more-msgpack-names", PREDICT, MESSAGEPACK, lambda: words, "zstd")
    yield Hostile(
        "more-msgpack-binary", PREDICT, MESSAGEPACK, lambda: b"\x91\xc6\x01\xe0\0\0" + bytes(30 * MIB), "zstd"
    )
    tiny = b"\xdd\0\x07\xff\xff" + b"\x81\xa1a\xcb" + bytes(8)
    yield Hostile("more-msgpack-records", PREDICT, MESSAGEPACK, filling(tiny, b"\x81\xa1a\xcb" + bytes(8), b""), "zstd")


def of_cells() -> Iterator[Hostile]:
    """Yield CSV and forms of odd cells."""
    cells = {
        "one-quoted-cell": (b'"', b"a", b'"\n'),
        "doubled-quotes": (b'"', b'""', b'"\n'),
        "quoted-line-ends": (b'"', b"\n", b'"\n'),
        "numbers-of-two-digits": (b"feature1,feature2\n", b"10,10\n", b""),
        "wide-numbers": (b"feature1,feature2\n", b"10," * 400 + b"10\n", b""),
        "ragged": (b"feature1,feature2\n", b"1\n1,2,3\n", b""),
        "blank-cells": (b"feature1,feature2\n", b" , \n", b""),
        "long-blanks": (b"feature1,feature2\n", b" " * 100_000 + b"x,0\n", b""),
        "digits-and-a-letter": (b"feature1,feature2\n", b"9" * 100_000 + b"x,0\n", b""),
        "names": (b"", b"name,", b"name\n0\n"),
        "objects": (b"feature1,feature2\n", b'"{""a"":0}",0\n', b""),
        "deep-objects": (b'feature1,feature2\n"', b"[" * 1000, b'",0\n'),
    }
    for name, (head, unit, tail) in cells.items():
        yield Hostile(f"more-csv-{name}", PREDICT, CSV, filling(head, unit, tail), "zstd")
    field = ("feature1", b"9" * 30 * MIB, None)
    yield Hostile("more-form-digits", PREDICT, FORM, lambda: bodies.form([field])[1], "zstd")
    nearly = b"\r\n--a-boundar"
    yield Hostile("more-form-nearly", PREDICT, FORM, filling(b"--a-boundary\r\n\r\n", nearly, b""), "zstd")
    lines = b'--a-boundary\r\nContent-Disposition: form-data; name="a"\r\n' + b"\r\n" * 20
    yield Hostile("more-form-empty-lines", PREDICT, FORM, filling(lines, b"\r\n", b"\r\n--a-boundary--"), "zstd")


def of_codings() -> Iterator[Hostile]:
    """Yield bodies that are long only before decompression, or have very many members."""
    member = gzip.compress(b"", 9)
    yield Hostile("gzip-empty-members", PREDICT, JSON, lambda: member * 3000, "as-gzip")
    yield Hostile("gzip-small-members", PREDICT, JSON, lambda: gzip.compress(b" ", 9) * 3000, "as-gzip")
    bomb = gzip.compress(bytes(BODY_BYTES), 9)
    yield Hostile("gzip-twice", PREDICT, JSON, lambda: bomb, "gzip")
    yield Hostile("gzip-cut-short", PREDICT, JSON, lambda: bomb[:-9], "as-gzip")


def every() -> list[Hostile]:
    """Return all bodies, by name."""
    return [*of_wide_texts(), *of_documents(), *of_cells(), *of_codings()]
