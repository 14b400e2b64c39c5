"""Tests of JSON and of the places in its errors."""

from __future__ import annotations

import pytest

from app.errors import InvalidJson, TooManyValues
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
@pytest.mark.fault("I15")
def test_the_error_has_line_and_column(body: bytes, place: tuple[int, int]) -> None:
    with pytest.raises(InvalidJson) as caught:
        JSON.document(body)
    assert (caught.value.line, caught.value.column) == place
    assert caught.value.detail.endswith(f"(line {place[0]}, column {place[1]})")


@pytest.mark.parametrize("innermost", [b"1", b"NaN", b'"\\ud800"'])
def test_a_document_that_is_nested_too_deeply_has_no_line(innermost: bytes) -> None:
    with pytest.raises(InvalidJson) as caught:
        JSON.document(b"[" * 100_000 + innermost + b"]" * 100_000)
    assert caught.value.detail == "the body is not valid JSON: it is nested too deeply"


@pytest.mark.fault("I08")
def test_whole_pairs_are_text() -> None:
    assert JSON.document(b'[NaN, "\\ud83d\\ude00"]')[1] == "\U0001f600"


@pytest.mark.parametrize("number", ["1e308", "-1.5E-300", "123456789.125e-308"])
def test_numbers_that_take_long_are_the_same_numbers(number: str) -> None:
    assert JSON.document(f"[{','.join([number] * 200)}]".encode()) == [float(number)] * 200


def test_a_body_of_nothing_but_lists_is_not_read() -> None:
    with pytest.raises(TooManyValues, match=r"101 lists and objects; at most 100 are .* RETORT_MAX_VALUES"):
        JSON.document(b"[" + b"[]," * 100 + b"0]", 400)
    assert len(JSON.document(b"[" + b"[]," * 99 + b"0]", 400)) == 100
