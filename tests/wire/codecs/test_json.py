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


def test_whole_pairs_are_text() -> None:
    assert JSON.decode(b'[NaN, "\\ud83d\\ude00"]')[1] == "\U0001f600"
