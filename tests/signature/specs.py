"""Hypothesis strategies: inputs of every kind, and values that a body can hold."""

from __future__ import annotations

import io
from base64 import b64encode
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from app.signature import Input, Layout, Picture, Signature
from app.signature.images import shape_of

ZONES = [ZoneInfo(name) for name in ("UTC", "Europe/Dublin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia")]
AWKWARD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    127,
    128,
    -129,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    2**64,
    2**70,
    10**400,
    0.0,
    -0.0,
    1.0,
    1.5,
    1e39,
    2.0**63,
    1e300,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "a",
    "red",
    "1",
    "x" * 20_000,
    "\u0000",
    "__proto__",
    [],
    [1.0],
    {},
    {"x": 1.0},
]
VALUES = st.one_of(
    st.sampled_from(AWKWARD),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)

CATEGORIES: list[tuple[str, tuple[Any, ...]]] = [
    ("str", ("red", "green", "")),
    ("object", ("a", "red")),
    ("category", ("red", "green")),
    ("int64", (0, 1, 7)),
    ("int8", (0, 1, 7)),
    ("float64", (0.0, 1.5)),
    ("float64", (1, 1.5)),
    ("bool", (False, True)),
]
OPEN_CATEGORIES = [choice for choice in CATEGORIES if choice[0] != "bool"]
DTYPES = {
    "number": ["float64", "float32"],
    "integer": ["int64", "int32", "int8", "uint8", "uint64"],
    "boolean": ["bool", "boolean"],
    "text": ["object", "str"],
    "unused": ["float64"],
    "timestamp": ["datetime64[ns]", "datetime64[us]", "datetime64[s, Europe/Berlin]"],
}


PICTURES = [Picture("L", 2, 1), Picture("RGB", 1, 2, 255.0), Picture("L", 3, 3, 127.5, -1.0, 12)]


def image_file(form: str, size: tuple[int, int], mode: str = "RGB", **options: Any) -> bytes:
    """Return the content of a small image file of one colour."""
    stream = io.BytesIO()
    Image.new(mode, size, "red" if mode == "RGB" else 77).save(stream, form, **options)
    return stream.getvalue()


IMAGE_FILES = [
    image_file("PNG", (2, 1)),
    image_file("PNG", (3, 3), "L"),
    image_file("JPEG", (4, 4)),
    image_file("WEBP", (5, 4)),
    image_file("PNG", (2, 2))[:-20],
    image_file("GIF", (2, 2)),
]
IMAGES: list[Any] = [
    *IMAGE_FILES,
    *(b64encode(content).decode() for content in IMAGE_FILES),
    "data:image/png;base64," + b64encode(IMAGE_FILES[0]).decode(),
    {"b64": b64encode(IMAGE_FILES[0]).decode()},
]


def arrays_for(spec: Input) -> st.SearchStrategy[Any]:
    """Draw arrays of an input in every form, some of them slightly wrong."""
    shape, dtype = spec.shape or (), np.dtype(spec.dtype)
    element = st.booleans() if spec.dtype == "bool" else st.one_of(st.integers(0, 127), st.sampled_from(AWKWARD))
    right: st.SearchStrategy[Any] = element
    for size in reversed(shape):
        right = st.lists(right, min_size=size, max_size=size)
    zeros = np.zeros(shape, dtype)
    stream = io.BytesIO()
    np.save(stream, zeros)
    raw = b64encode(zeros.tobytes()).decode()
    forms: list[Any] = [
        {"b64": raw},
        {"b64": raw, "dtype": spec.dtype, "shape": list(shape)},
        {"b64": raw, "dtype": "float64"},
        {"b64": raw, "shape": [9]},
        {"b64": raw[:-4]},
        {"b64": "?"},
        {"b64": 1},
        {"npy": b64encode(stream.getvalue()).decode()},
        {"npy": b64encode(stream.getvalue()[:-1]).decode()},
        {"npy": raw},
        stream.getvalue(),
        zeros.tobytes(),
    ]
    return st.one_of(right, st.sampled_from(forms))


LARGEST = st.sampled_from([None, 3e38])
"""The numbers that trees accept, which compute in float32."""


@cache
def inputs(kind: str, name: str = "x") -> st.SearchStrategy[Input]:
    """Draw inputs of one kind: every dtype, nullable or not, and for a category open or closed."""
    nullable, missing = st.booleans(), st.sampled_from(["nan", "none"])
    if kind == "category":
        closed = st.sampled_from(CATEGORIES).map(lambda choice: (*choice, "reject"))
        unbounded = st.sampled_from(OPEN_CATEGORIES).map(lambda choice: (*choice, "accept"))
        return st.builds(
            lambda choice, null, marker: Input(
                name, "category", choice[0], null, categories=choice[1], unseen=choice[2], missing=marker
            ),
            st.one_of(closed, unbounded),
            nullable,
            missing,
        )
    if kind == "array":
        dtypes = st.sampled_from(["float64", "float32", "int8", "int64", "uint16", "bool"])
        return st.builds(
            lambda dtype, shape, null, largest: Input(
                name, "array", dtype, null and "float" in dtype, largest=largest, shape=shape
            ),
            dtypes,
            st.sampled_from([(1,), (2,), (2, 2), (1, 2, 1)]),
            nullable,
            LARGEST,
        )
    if kind == "record":
        return nullable.map(lambda null: Input(name, "record", "object", null))
    if kind == "image":
        return st.builds(
            lambda picture, largest: Input(
                name, "image", "float64", largest=largest, shape=shape_of(picture), image=picture
            ),
            st.sampled_from(PICTURES),
            LARGEST,
        )
    return st.builds(
        lambda dtype, null, marker: Input(
            name, kind, dtype, null, missing="na" if kind == "integer" and marker == "none" else marker
        ),
        st.sampled_from(DTYPES[kind]),
        st.just(True) if kind == "unused" else nullable,
        missing,
    )


def values_for(spec: Input) -> st.SearchStrategy[Any]:
    """Draw values of every type, many of them acceptable for the input."""
    likely: dict[str, st.SearchStrategy[Any]] = {
        "number": st.one_of(st.floats(-1e30, 1e30), st.integers(-(2**63), 2**63 - 1)),
        "integer": st.one_of(st.integers(0, 127), st.integers(-(2**63), 2**63 - 1), st.just(5.0)),
        "boolean": st.booleans(),
        "category": st.sampled_from(spec.categories or ("a",)),
        "text": st.text(max_size=5),
        "unused": st.floats(),
        "timestamp": st.one_of(
            st.datetimes().map(lambda time: time.isoformat()),
            st.datetimes(timezones=st.sampled_from(ZONES)).map(lambda time: time.isoformat()),
            st.floats(-1e10, 1e10),
            st.integers(-(10**12), 10**12),
            st.sampled_from(["2024-02-30", "2024-01-31", "2024-01-31 12:30Z", "2024-01-31T12:30:60Z", "1e3"]),
        ),
    }
    members = st.one_of(st.booleans(), st.integers(-9, 9), st.text(max_size=3), st.sampled_from(AWKWARD))
    likely["record"] = st.dictionaries(
        NAMES, st.one_of(members, st.dictionaries(NAMES, members, max_size=2)), max_size=3
    )
    likely |= {"array": st.nothing(), "image": st.sampled_from(IMAGES)}
    if spec.kind == "array":
        likely["array"] = arrays_for(spec)
    missing = st.sampled_from([None, float("nan")]) if spec.nullable else st.nothing()
    return st.one_of(likely[spec.kind], likely[spec.kind], missing, VALUES)


def signature(*specs: Input) -> Signature:
    """Return the signature of a model with these inputs and a prediction."""
    return Signature(specs, ("prediction",), ("prediction",), Layout.FRAME)
