"""What tells, before a decoder runs, that it would take long."""

from __future__ import annotations

import json

import pytest

from app.signature import Input, guards
from app.signature.decoder import decoder_of
from app.signature.guards import FEW_SLOW_NUMBERS, has_slow_numbers, has_too_many_containers
from tests.signature.specs import signature

MANY = FEW_SLOW_NUMBERS + 2


@pytest.mark.parametrize("number", ["1e308", "1E308", "1e-308", "1.5E+300", "5e-324", "1e100"])
def test_many_numbers_at_the_ends_of_the_range_are_slow(number: str) -> None:
    for body in (f"[{','.join([number] * MANY)}]", ",".join([number] * MANY)):
        assert has_slow_numbers(body.encode())
    assert not has_slow_numbers(f"[{','.join([number] * FEW_SLOW_NUMBERS)}]".encode())


@pytest.mark.parametrize("number", ["1e30", "1e-9", "1.5", '"three"', '{"feature1": 100}', "1e3"])
def test_others_are_not(number: str) -> None:
    assert not has_slow_numbers(f"[{','.join([number] * 1000)}]".encode())


def test_what_ends_in_an_exponent_is_looked_at_no_further() -> None:
    for end in (b"e", b"e-", b"e+1", b"e10", b"e-10"):
        assert not has_slow_numbers(b"e30," * MANY + end)


def test_the_fast_path_leaves_them_to_the_slow_one() -> None:
    decoder = decoder_of(signature(Input("x", "number", "float64")), 10**6)
    assert decoder is not None
    assert decoder.decode(json.dumps([[1e-30]] * MANY).encode()) is not None
    assert decoder.decode(json.dumps([[1e-300]] * MANY).encode()) is None


def test_lists_and_objects_are_counted_outside_of_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MOST_CONTAINERS", 10)
    assert has_too_many_containers(b"[" + b"[]," * 10 + b"0]")
    assert has_too_many_containers(b"[" + b'{"a":1},' * 10 + b"0]")
    assert not has_too_many_containers(b"[" + b"[]," * 9 + b"0]")
    assert not has_too_many_containers(json.dumps(["[{[{\\" + '"[[[[[' + "\n{{"] * 20).encode())
