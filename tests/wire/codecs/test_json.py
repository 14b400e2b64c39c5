"""JSON: where it says that something is amiss."""

from __future__ import annotations

import pytest

from app.errors import InvalidBody, InvalidJson
from app.signature import guards
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


@pytest.mark.parametrize("number", ["1e308", "-1.5E-300", "123456789.125e-308"])
def test_numbers_that_take_long_are_the_same_numbers(number: str) -> None:
    assert JSON.decode(f"[{','.join([number] * 200)}]".encode()) == [float(number)] * 200


def test_a_body_of_nothing_but_lists_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MOST_CONTAINERS", 100)
    with pytest.raises(InvalidBody, match="more than 2000000 lists and objects, the most that are read"):
        JSON.decode(b"[" + b"[]," * 100 + b"0]")
    assert len(JSON.decode(b"[" + b"[]," * 99 + b"0]")) == 100
