"""The cost of a JSON body is estimated before it is decoded."""

from __future__ import annotations

import json

import pytest

from app.errors import TooManyValues
from app.signature import Input, json_values
from app.signature.decoder import decoder_of
from app.signature.json_values import (
    FEW_SLOW_NUMBERS,
    LONG_TEXT_BYTES,
    excess_in_json,
    has_long_wide_text,
    has_slow_numbers,
)
from tests.signature.specs import signature

MANY = FEW_SLOW_NUMBERS + 2


@pytest.mark.parametrize("number", ["1e308", "1E308", "1e-308", "1.5E+300", "5e-324", "1e100"])
def test_many_numbers_at_the_ends_of_the_range_are_slow(number: str) -> None:
    for body in (f"[{','.join([number] * MANY)}]", ",".join([number] * MANY)):
        assert has_slow_numbers(body.encode())
    assert not has_slow_numbers(f"[{','.join([number] * FEW_SLOW_NUMBERS)}]".encode())


@pytest.mark.parametrize("number", ["1e30", "1e-9", "1.5", '"three"', '{"feature1": 100}', "1e3"])
def test_other_numbers_are_not_slow(number: str) -> None:
    assert not has_slow_numbers(f"[{','.join([number] * 1000)}]".encode())


def test_a_body_that_ends_in_an_exponent_is_not_slow() -> None:
    for end in (b"e", b"e-", b"e+1", b"e10", b"e-10"):
        assert not has_slow_numbers(b"e30," * MANY + end)


def test_slow_numbers_are_left_to_the_slow_path() -> None:
    decoder = decoder_of(signature(Input("x", "number", "float64")), 10**6)
    assert decoder is not None
    assert decoder.decode(json.dumps([[1e-30]] * MANY).encode()) is not None
    assert decoder.decode(json.dumps([[1e-300]] * MANY).encode()) is None


def test_values_lists_and_objects_of_json_are_counted_outside_of_strings() -> None:
    assert_refused(excess_in_json(b"[" + b"[]," * 10 + b"0]", 40), "11 lists and objects; at most 10")
    assert_refused(excess_in_json(b"[" + b'{"a":1},' * 10 + b"0]", 40), "11 lists and objects; at most 10")
    assert_refused(excess_in_json(b"[" + b"0, " * 40 + b"0]", 40), "41 values; at most 40")
    assert_refused(excess_in_json(b"\n" * 50, 40), "51 values; at most 40")
    assert excess_in_json(b"[" + b"[]," * 9 + b"0]", 40) is None
    assert excess_in_json(b"[" + b"0, " * 39 + b"0]", 40) is None
    assert excess_in_json(json.dumps(["[{,,\\" + '"[[,,,' + "\n{{"] * 20).encode(), 100) is None


@pytest.mark.parametrize("scanned_bytes", [1, 7, 2**20])
def test_strings_of_json_may_lie_across_the_parts_that_are_scanned(
    monkeypatch: pytest.MonkeyPatch, scanned_bytes: int
) -> None:
    monkeypatch.setattr(json_values, "SCANNED_BYTES", scanned_bytes)
    assert excess_in_json(json.dumps(["[,{" * 9, 'a"b', "\\", 0, 0] * 3).encode(), 16) is None
    assert_refused(excess_in_json(json.dumps(["[,{" * 9, 'a"b', "\\", 0, 0] * 4).encode(), 16), "20 values; at most 16")


def assert_refused(error: TooManyValues | None, said: str) -> None:
    assert error is not None
    assert said in error.detail
    assert "RETORT_MAX_VALUES" in error.detail


def test_integers_of_hundreds_of_digits_are_slow() -> None:
    rows = b"[" + b",".join([b"9" * 1000] * 2000) + b"]"
    assert has_slow_numbers(rows)
    assert not has_slow_numbers(rows[: 2**19])
    assert not has_slow_numbers(b"[" + b",".join([b"12345"] * 400_000) + b"]")
    assert not has_slow_numbers(b'["' + b"12345678" * 40 + b"a" * 2**21 + b'"]')


@pytest.mark.slow
def test_a_text_of_megabytes_is_long_and_wide_if_it_has_one_wide_character() -> None:
    wide = "\U0001f427".encode()
    text = b"a" * (LONG_TEXT_BYTES + 1)
    assert has_long_wide_text(b'["' + wide + text + b'"]')
    assert has_long_wide_text(b'["' + text + wide + b'"]')
    assert not has_long_wide_text(b'["' + text + b'"]')
    assert not has_long_wide_text(b'["' + "\u00e9".encode() + text + b'"]')
    assert not has_long_wide_text(b'["' + wide + b'",' + b'"aaaaaaaa",' * 1_000_000 + b"0]")
