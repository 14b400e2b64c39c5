"""Inputs of every kind, and values of every sort that a body can hold, for Hypothesis to choose from."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

from app.signature import Input, Layout, Signature

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


@cache
def inputs(kind: str, name: str = "x") -> st.SearchStrategy[Input]:
    """Inputs of one kind: every dtype, nullable or not, and for a category open or closed."""
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
    return st.builds(
        lambda dtype, null, marker: Input(
            name, kind, dtype, null, missing="na" if kind == "integer" and marker == "none" else marker
        ),
        st.sampled_from(DTYPES[kind]),
        st.just(True) if kind == "unused" else nullable,
        missing,
    )


@cache
def values_for(spec: Input) -> st.SearchStrategy[Any]:
    """Values of every sort, many of them such as the input may well accept."""
    likely: dict[str, st.SearchStrategy[Any]] = {
        "number": st.one_of(st.floats(-1e30, 1e30), st.integers(-(2**63), 2**63 - 1)),
        "integer": st.one_of(st.integers(0, 127), st.integers(-(2**63), 2**63 - 1), st.just(5.0)),
        "boolean": st.booleans(),
        "category": st.sampled_from(spec.categories or ("a",)),
        "text": st.text(max_size=5),
        "unused": st.floats(),
        "timestamp": st.one_of(
            st.datetimes().map(lambda time: time.isoformat()),
            st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat()),
            st.floats(-1e10, 1e10),
            st.integers(-(10**12), 10**12),
            st.sampled_from(["2024-02-30", "2024-01-31", "2024-01-31 12:30Z", "2024-01-31T12:30:60Z", "1e3"]),
        ),
    }
    missing = st.sampled_from([None, float("nan")]) if spec.nullable else st.nothing()
    return st.one_of(likely[spec.kind], likely[spec.kind], missing, VALUES)


def signature(*specs: Input) -> Signature:
    """The signature of a model that takes these inputs and gives a prediction."""
    return Signature(specs, ("prediction",), ("prediction",), Layout.FRAME)
