"""Images are decoded, rotated, resized and scaled, or refused, within bounded memory."""

from __future__ import annotations

import io
import math
import struct
import sys
import tracemalloc
import zlib
from base64 import b64encode
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageOps

from app.errors import DeadlineExceeded, InvalidInstances, InvalidRepository, TooManyInstances
from app.signature import Input, Picture, images
from app.signature.image_headers import START_OF_SCAN
from app.signature.images import RAISED_BY, Image, array_of, encoded, one_too_many
from app.signature.kinds import rule_of
from app.signature.schema import schema_of
from app.signature.validator import Validator
from app.telemetry import RequestScope, current_request
from tests.signature.specs import image_file, signature


def spec_of(mode: str = "L", width: int = 2, height: int = 2, **options: Any) -> Input:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Input("x", "image", "float64", shape=shape, image=Picture(mode, width, height, **options))


def file(pixels: Any, form: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    array = np.array(pixels, dtype=np.uint16 if mode == "I;16" else np.uint8)
    Pillow.fromarray(array).save(stream, form, **options)
    return stream.getvalue()


def pillow_file(mode: str, size: tuple[int, int], form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Pillow.new(mode, size).save(stream, form, **options)
    return stream.getvalue()


def seen(value: object, spec: Input) -> Any:
    column = Image().column([value], spec)
    assert column is not None
    return column[0].tolist()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(width: int, height: int, compressed: bytes = b"") -> bytes:
    """Return a PNG whose header declares this many grey pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def webp(width: int, height: int, kind: bytes = b"VP8X") -> bytes:
    """Return a WebP whose header declares this many pixels."""
    sizes = {
        b"VP8X": b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
        b"VP8L": b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\0" * 5,
        b"VP8 ": b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width, height),
    }[kind]
    body = b"WEBP" + kind + struct.pack("<I", 10) + sizes
    return b"RIFF" + struct.pack("<I", len(body)) + body


PIXELS = [[0, 51], [102, 255]]


def test_pixels_are_scaled_as_the_signature_says() -> None:
    assert seen(file(PIXELS), spec_of()) == PIXELS
    assert seen(file(PIXELS), spec_of(divisor=255.0)) == [[0, 0.2], [0.4, 1.0]]
    assert seen(file(PIXELS), spec_of(divisor=127.5, offset=-1.0)) == pytest.approx(np.array([[-1, -0.6], [-0.2, 1.0]]))


def test_every_form_and_format_is_the_same_image() -> None:
    content = file(PIXELS)
    text = b64encode(content).decode()
    for value in (
        content,
        text,
        text[:20] + "\r\n" + text[20:],
        {"b64": text},
        f"data:image/png;base64,{text}",
        f"DATA:image/png;charset=utf-8;base64,{text}",
        file(PIXELS, "WEBP", lossless=True),
    ):
        assert seen(value, spec_of()) == PIXELS
    assert seen(image_file("JPEG", (8, 8), "L"), spec_of()) == [[77, 77], [77, 77]]


def test_images_are_converted_to_the_mode_and_size_of_the_signature() -> None:
    red = image_file("PNG", (2, 2))
    assert seen(red, spec_of("RGB", 1, 1)) == [[[255, 0, 0]]]
    assert seen(red, spec_of("L", 1, 1)) == [[76]]
    assert seen(file([[0, 0, 10, 10], [0, 20, 10, 50]]), spec_of("L", 2, 1)) == [[5, 20]]
    assert seen(file(PIXELS), spec_of("RGB"))[1][1] == [255, 255, 255]
    deep = file([[0, 256 * 51], [256 * 102, 65535]], mode="I;16")
    assert seen(deep, spec_of()) == PIXELS


def test_the_orientation_in_exif_is_applied() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the camera was rotated by 90 degrees clockwise
    assert seen(file(PIXELS, exif=exif), spec_of()) == [[102, 0], [255, 51]]


def test_an_array_is_encoded_as_a_png() -> None:
    spec = spec_of(divisor=255.0, offset=-0.5)
    assert spec.image is not None
    array = np.array(PIXELS) / 255.0 - 0.5
    assert seen(encoded(array, spec.image), spec) == pytest.approx(array)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "must not be missing"),
        (7, "must be an image in base64 or as a data URL, not a number"),
        ([1], "must be an image in base64 or as a data URL, not a list"),
        ({"url": "http://localhost/"}, "must be an image in base64 or as a data URL, not an object"),
        ("not base64!", "must be base64"),
        ("http://localhost/cat.png", "must be base64"),
        ("data:text/html;base64,AAAA", "must be base64"),
        ("data:image/png,AAAA", "must be base64"),
        ("", "must be a PNG, JPEG or WebP image"),
        (b"", "must be a PNG, JPEG or WebP image"),
        (b"\x89PNG\r\n\x1a\n", "must be a"),
        (image_file("GIF", (2, 2)), "must be a PNG, JPEG or WebP image"),
        (image_file("BMP", (2, 2)), "must be a PNG, JPEG or WebP image"),
        (image_file("PNG", (2, 2))[:-20], "must be a whole PNG, JPEG or WebP image; it is truncated or broken"),
        (image_file("JPEG", (64, 64))[:-100], "must be a whole PNG, JPEG or WebP image; it is truncated or broken"),
        (image_file("WEBP", (64, 64))[:-10], "must be a"),
        (bomb(10_000, 10_000), f"must have at most 25000000 pixels{RAISED_BY}, not 10000 by 10000"),
        (bomb(2**31 - 1, 2**31 - 1), "must have at most 25000000 pixels"),
        (bomb(5000, 5000, zlib.compress(b"\0" * 100)), "must be a whole PNG, JPEG or WebP image; it is truncated"),
        (bomb(0, 5), "must be a"),
        (webp(16_000, 16_000), f"must have at most 12500000 pixels{RAISED_BY} as a WebP, not 16000 by 16000"),
        (webp(16_000, 16_000, b"VP8L"), f"must have at most 12500000 pixels{RAISED_BY} as a WebP, not 16000 by 16000"),
        (webp(16_000, 16_000, b"VP8 "), f"must have at most 12500000 pixels{RAISED_BY} as a WebP, not 16000 by 16000"),
        (webp(2, 2), "must be a"),
    ],
    ids=lambda value: repr(value)[:40],
)
@pytest.mark.fault("B08", "X03")
def test_other_values_are_refused_with_a_reason(value: object, problem: str) -> None:
    assert (rule_of(spec_of())(value) or "").startswith(problem)
    assert Image().column([value], spec_of()) is None


@pytest.mark.slow
@pytest.mark.fault("B08")
def test_a_hundred_megapixels_are_refused_by_their_header() -> None:
    rows = zlib.compress(b"\0" * 10_001 * 10_000, 9)
    content = bomb(10_000, 10_000, rows)
    assert len(content) < 200_000
    tracemalloc.start()
    try:
        assert rule_of(spec_of())(content) == f"must have at most 25000000 pixels{RAISED_BY}, not 10000 by 10000"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_large_images_are_decoded_in_turn(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGE_PIXELS", 4)
    monkeypatch.setattr(images, "TURN_WAIT_S", 0.01)
    large = file([[7] * 5] * 5, form)
    assert seen(large, spec_of())
    assert rule_of(spec_of())(large[:-9]) is not None
    with images._turns:  # another thread has the turn; both calls before have ended theirs
        assert seen(file(PIXELS, form), spec_of())
        with pytest.raises(DeadlineExceeded):
            seen(large, spec_of())


def test_a_jpeg_of_very_many_scans_and_a_png_of_many_profiles_are_not_decoded() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    progressive = file(image, "JPEG", progressive=True)
    assert 1 < progressive.count(START_OF_SCAN) < 20
    assert rule_of(spec_of())(progressive) is None
    scan = progressive[progressive.rindex(START_OF_SCAN) : progressive.rindex(b"\xff\xd9")]
    many = progressive.removesuffix(b"\xff\xd9") + scan * 100 + b"\xff\xd9"
    assert "too many scans, parts, texts, colour profiles" in (rule_of(spec_of())(many) or "")
    whole = file(PIXELS)
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2**20), 9))
    profiles = whole[:33] + profile * 10 + whole[33:]
    assert "too many scans, parts, texts, colour profiles" in (rule_of(spec_of())(profiles) or "")
    assert one_too_many([profiles] * 5, spec_of(pixel_limit=1)) is None
    one = whole[:33] + profile + whole[33:]  # longer than a profile may be after decompression
    assert rule_of(spec_of())(one) is not None


def test_images_with_compressed_parts_count_as_larger_ones() -> None:
    whole = file(PIXELS)
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1000), 9))
    with_text = whole[:33] + text + whole[33:]
    assert rule_of(spec_of())(with_text) is None
    assert one_too_many([whole] * 20, spec_of(pixel_limit=250_000)) is None
    found = one_too_many([with_text] * 20, spec_of(pixel_limit=250_000))
    assert found is not None
    assert found[0] == 4


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_of_very_many_entries_is_not_read(form: str) -> None:
    def with_exif(entries: int) -> bytes:
        tiff = b"MM\0*\0\0\0\x08" + struct.pack(">H", entries)
        tiff += b"".join(struct.pack(">HHII", at, 4, 1, 8) for at in range(0x200, 0x200 + entries))
        return file(PIXELS, form, exif=b"Exif\0\0" + tiff + bytes(4))

    assert rule_of(spec_of())(with_exif(50)) is None
    assert "entries of EXIF" in (rule_of(spec_of())(with_exif(100)) or "")


def test_exif_in_a_compressed_text_is_bounded_too() -> None:
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">H", 1000) + bytes(12_000)
    text = b"\nexif\n%8d\n" % len(tiff) + tiff.hex().encode()
    whole = file(PIXELS)
    bad = whole[:33] + chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text, 9)) + whole[33:]
    assert "entries of EXIF" in (rule_of(spec_of())(bad) or "")


def test_exif_whose_entries_begin_in_another_segment_of_a_jpeg_is_not_read() -> None:
    whole = file(PIXELS, "JPEG")
    exif = b"Exif\0\0MM\0*" + struct.pack(">I", 60_000)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert "entries of EXIF" in (rule_of(spec_of())(whole[:2] + segment + whole[2:]) or "")


@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.integers(0, 400), st.binary(max_size=20))
@pytest.mark.fault("B08")
def test_damaged_files_are_refused(form: str, at: int, noise: bytes) -> None:
    whole = image_file(form, (20, 20))
    rule_of(spec_of(pixel_limit=250_000))(whole[:at] + noise + whole[at + len(noise) :])


@pytest.mark.parametrize("part", [chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", b""), chunk(b"abCd", b"")])
def test_a_png_of_very_many_chunks_is_not_decoded(part: bytes) -> None:
    whole = file(PIXELS)
    assert rule_of(spec_of())(whole[:33] + chunk(b"tEXt", b"a\0b") * 20 + whole[33:]) is None
    assert "too many scans, parts" in (rule_of(spec_of())(whole[:33] + part * 100 + whole[33:]) or "")


@pytest.mark.parametrize("part", [b"\xff\xfe\0\2", b"\xff\xe5\0\2", b"\xff\xff"])
def test_a_jpeg_of_very_many_segments_is_not_decoded(part: bytes) -> None:
    whole = file(PIXELS, "JPEG")
    assert rule_of(spec_of())(whole[:2] + b"\xff\xfe\0\2" * 20 + whole[2:]) is None
    assert "too many scans, parts" in (rule_of(spec_of())(whole[:2] + part * 1000 + whole[2:]) or "")


def test_a_request_has_a_limited_number_of_images() -> None:
    validator = Validator(signature(spec_of()), 100_000)
    with pytest.raises(TooManyInstances, match=r"has 1001 instances; at most 1000 are"):
        validator.validate([["x"]] * 1001)


def test_images_are_not_decoded_after_the_deadline_of_their_request() -> None:
    token = current_request.set(RequestScope(deadline_s=-math.inf))
    try:
        with pytest.raises(DeadlineExceeded, match="time ran out while its body was read"):
            Validator(signature(spec_of()), 10).validate([[file(PIXELS)]])
    finally:
        current_request.reset(token)


def test_a_request_has_no_more_images_than_fit_into_memory() -> None:
    validator = Validator(signature(spec_of("RGB", 1000, 1000)), 100_000)
    with pytest.raises(TooManyInstances, match=r"at most 11 are taken at once: send it in parts$"):
        validator.validate([["x"]] * 12)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_request_has_no_more_pixels_than_four_of_the_largest_images(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken and oversized images are not counted, because they are refused anyway."""
    monkeypatch.setattr(images, "WEBP_BYTES", 0)
    validator = Validator(signature(spec_of(), Input("n", "number", "float64")), 100, pixel_limit=10)
    image, detail = (
        file([[0] * 4] * 2, form),
        "the images of a request must have at most 40 pixels together" + RAISED_BY,
    )
    assert validator.validate([[image, 1.0]] * 5).rows == 5
    rows: list[Any] = [[image, 1.0], {"x": image, "n": 1.0}, None, [], {"n": 1}, ["?", 1.0], [bomb(4, 4), 1.0]]
    for last, pointer in (([image, 1.0], "#/instances/10/0"), ({"x": image, "n": 1.0}, "#/instances/10/x")):
        with pytest.raises(InvalidInstances) as caught:
            validator.validate([*rows, *[[image, 1.0]] * 3, last], "#/instances")
        assert [(each.pointer, each.detail) for each in caught.value.errors] == [
            (pointer, f"is one too many: {detail}")
        ]


def test_errors_of_images_in_nested_records_point_to_their_place() -> None:
    spec = replace(spec_of(pixel_limit=1), name="photo.image")
    validator = Validator(signature(spec), 100)
    with pytest.raises(InvalidInstances) as caught:
        validator.validate([{"photo": {"image": file([[7]])}}] * 5, "#/instances")
    assert [each.pointer for each in caught.value.errors] == ["#/instances/4/photo/image"]


def test_the_limit_of_pixels_comes_from_the_model_or_the_setting() -> None:
    for own, setting, problem in ((None, 3, "at most 3 pixels"), (2, 3, "at most 2 pixels"), (4, 3, "")):
        validator = Validator(signature(spec_of(pixel_limit=own)), 10, pixel_limit=setting)
        said = rule_of(validator.signature.inputs[0])(file(PIXELS)) or ""
        assert problem in said
        assert bool(said) is bool(problem)


def test_without_pillow_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InvalidRepository, match="needs Pillow: pip install"):
        schema_of(signature(spec_of()))


@pytest.mark.parametrize(
    "picture", [Picture("CMYK", 2, 2), Picture("L", 0, 2), Picture("L", 2, 2, 0.0), Picture("L", 3, 2)]
)
def test_impossible_conversions_are_refused(picture: Picture) -> None:
    with pytest.raises(InvalidRepository):
        schema_of(signature(Input("x", "image", "float64", shape=(2, 2), image=picture)))


@pytest.mark.parametrize(
    ("mode", "form", "how", "most"),
    [
        ("RGB", "JPEG", {}, 100),
        ("RGB", "JPEG", {"progressive": True}, 72),
        ("CMYK", "JPEG", {}, 88),
        ("L", "JPEG", {"progressive": True}, 100),
        ("RGB", "WEBP", {"lossless": True}, 47),
        ("I;16", "PNG", {}, 100),
        ("RGBA", "PNG", {}, 100),
    ],
)
def test_images_with_more_memory_per_pixel_may_have_fewer_pixels(mode: str, form: str, how: Any, most: int) -> None:
    rule = rule_of(spec_of(pixel_limit=100))
    fits, too_large = (pillow_file(mode, (pixels, 1), form, **how) for pixels in (most, most + 1))
    assert rule(fits) is None
    assert f"must have at most {most} pixels{RAISED_BY}" in (rule(too_large) or "")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.fault("B08")
def test_an_image_is_rotated_as_exif_says(orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    picture = Pillow.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    stream = io.BytesIO()
    picture.save(stream, "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Pillow.open(io.BytesIO(stream.getvalue())))
    assert upright is not None
    spec = spec_of("L", *upright.size)
    assert array_of(stream.getvalue(), spec).tolist() == np.asarray(upright).astype(float).tolist()


def test_no_side_is_longer_than_a_jpeg_allows() -> None:
    assert "must have sides of at most 65535 pixels" in (rule_of(spec_of())(bomb(65_536, 1)) or "")


def test_many_scans_of_many_pixels_are_refused() -> None:
    rule = rule_of(spec_of(pixel_limit=100))
    picture = pillow_file("L", (90, 1), "JPEG", progressive=True)
    at = picture.rindex(START_OF_SCAN)
    again = picture[:-2] + picture[at:-2] * 10 + picture[-2:]
    assert rule(picture) is None
    assert "must have fewer scans for its size" in (rule(again) or "")
