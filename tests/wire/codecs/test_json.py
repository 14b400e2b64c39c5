"""JSON: where it says that something is amiss."""

from __future__ import annotations

import pytest

from app.errors import InvalidJson
from app.wire.codecs.json import JSON


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'["a",\n "b\\ud800"]', (2, 4)),
        (b'{"\\ude00": 1}', (1, 3)),
        (b'["\\ud83d\\ude00 \\\\ud800", "\\n\\ud83d", "\\ud800"]', (1, 29)),
        (b'["\\uD800\\u0041"]', (1, 3)),
        (b"[1,\n  x]", (2, 3)),
        (b'["\xc3\xa4", "\xff"]', (1, 8)),
        (b"", (1, 1)),
    ],
)
def test_it_is_told_where(body: bytes, place: tuple[int, int]) -> None:
    with pytest.raises(InvalidJson) as caught:
        JSON.decode(body)
    assert (caught.value.line, caught.value.column) == place
    assert caught.value.detail.endswith(f"(line {place[0]}, column {place[1]})")


@pytest.mark.parametrize("innermost", [b"1", b"NaN", b'"\\ud800"'])
def test_what_is_nested_too_deeply_is_so_at_no_one_place(innermost: bytes) -> None:
    with pytest.raises(InvalidJson) as caught:
        JSON.decode(b"[" * 100_000 + innermost + b"]" * 100_000)
    assert caught.value.detail == "the body is not valid JSON: it is nested too deeply"


def test_whole_pairs_are_text() -> None:
    assert JSON.decode(b'[NaN, "\\ud83d\\ude00"]')[1] == "\U0001f600"
