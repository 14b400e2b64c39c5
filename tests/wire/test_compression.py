"""Compressed bodies: what comes out is what went in, or the limit, or one sentence."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BodyTooLarge, MalformedRequest, UnsupportedMediaType
from app.wire.compression import MAX_MEMBERS, WORTH_IT_BYTES, compressed, expanded

LONG = b"tensor " * 200
COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("coding", COMPRESS)
@given(content=st.binary(max_size=2000))
def test_out_comes_what_went_in(coding: str, content: bytes) -> None:
    assert expanded(COMPRESS[coding](content), coding, 2000) == content


@pytest.mark.parametrize("coding", ["", None, "identity", " Identity "])
def test_what_is_not_compressed_is_as_it_is(coding: str | None) -> None:
    assert expanded(b"abc", coding, 3) == b"abc"


def test_gzip_may_have_several_members_but_not_any_number() -> None:
    assert expanded(gzip.compress(b"ab") + gzip.compress(b"c"), "GZIP", 3) == b"abc"
    with pytest.raises(MalformedRequest, match="more than 64 gzip members"):
        expanded(gzip.compress(b"") * (MAX_MEMBERS + 1), "gzip", 3)


@pytest.mark.parametrize("coding", COMPRESS)
def test_exactly_the_limit_is_not_over_it(coding: str) -> None:
    content = COMPRESS[coding](LONG)
    assert expanded(content, coding, len(LONG)) == LONG
    with pytest.raises(BodyTooLarge):
        expanded(content, coding, len(LONG) - 1)


@pytest.mark.parametrize("coding", COMPRESS)
def test_a_bomb_is_not_unpacked(coding: str) -> None:
    bomb = COMPRESS[coding](bytes(100 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            expanded(bomb, coding, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", COMPRESS)
def test_what_is_cut_short_or_goes_on_or_is_none(coding: str) -> None:
    whole = COMPRESS[coding](LONG)
    for content, said in [
        (whole[:-1], f"ends before its {coding} stream does"),
        (b"", f"ends before its {coding} stream does"),
        (b"{}", f"is not {coding}, which its Content-Encoding says|ends before"),
        (whole + b"x", "goes on after the end of its deflate stream|ends before|is not gzip"),
    ]:
        with pytest.raises(MalformedRequest, match=said):
            expanded(content, coding, 10_000)


def test_another_coding_is_refused_naming_those_there_are() -> None:
    with pytest.raises(UnsupportedMediaType, match="Content-Encoding 'br' is not supported; supported: gzip, deflate"):
        expanded(b"", "br", 10)


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip;q=0", None),
        ("*", "gzip"),
        ("br", None),
    ],
)
def test_an_answer_is_compressed_as_the_client_prefers(accept: str | None, coding: str | None) -> None:
    content, used = compressed(LONG, accept)
    assert used == coding
    assert (LONG if used is None else expanded(content, used, len(LONG))) == LONG


def test_a_short_answer_is_not_worth_it() -> None:
    assert compressed(b"x" * (WORTH_IT_BYTES - 1), "gzip") == (b"x" * (WORTH_IT_BYTES - 1), None)
