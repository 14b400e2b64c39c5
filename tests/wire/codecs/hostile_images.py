"""Hostile images: small files with the maximum of pixels, in forms that take more memory or time for each pixel."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.wire.codecs import bodies
from tests.wire.codecs.hostile import MIB, Hostile, chunk, image, jpeg_with, png_with

PATH = "/models/digits-image/predict"
FORM = f"multipart/form-data; boundary={bodies.BOUNDARY}"
SIDE = 5000
"""Side of a square image with the maximum of pixels."""


def encoded(mode: str, size: tuple[int, int], form: str, **how: Any) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, form, **how)
    return stream.getvalue()


def png(size: tuple[int, int], depth: int, color: int, interlaced: bool = False, channels: int = 1) -> bytes:
    """Return a PNG of one colour, with depths and interlacing that Pillow does not write."""
    width, height = size
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    if interlaced:  # Adam7: seven smaller images
        steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
        passes = [((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in steps]
    else:
        passes = [size]
    lines = b"".join(bytes((1 + (wide * depth * channels + 7) // 8) * high) for wide, high in passes if wide)
    palette = chunk(b"PLTE", bytes(768)) if color == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND")
    )


def animated(form: str, frames: int, side: int) -> bytes:
    stream = io.BytesIO()
    pictures = [Image.fromarray(np.full((side, side, 3), n % 256, np.uint8)) for n in range(frames)]
    pictures[0].save(stream, form, save_all=True, append_images=pictures[1:])
    return stream.getvalue()


def with_exif(entries: int) -> bytes:
    """Return a JPEG whose EXIF has this many entries. Each declares a length of a million, elsewhere."""
    entry = struct.pack(">HHII", 0x9000, 7, 1_000_000, 8)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", entries) + entry * entries + bytes(4)
    return jpeg_with(b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif, 1)


def of_many_pictures(pictures: int) -> bytes:
    """Return a JPEG that declares this many pictures (CIPA DC-007)."""
    entry = struct.pack(">HHI4s", 0xB001, 4, 1, struct.pack(">I", pictures))
    index = struct.pack(">HHI4s", 0xB002, 7, 16 * 1000, struct.pack(">I", 50))
    mpf = b"MPF\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entry + index + bytes(4) + bytes(16 * 1000)
    return jpeg_with(b"\xff\xe2" + struct.pack(">H", len(mpf) + 2) + mpf, 1)


def turned(size: tuple[int, int]) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("L", size, "JPEG", exif=exif)


LARGEST = (SIDE, SIDE)
IMAGES: dict[str, Callable[[], bytes]] = {
    "webp-lossless": lambda: encoded("RGB", LARGEST, "WEBP", lossless=True, method=0),
    "webp-lossy": lambda: encoded("RGB", (3400, 3400), "WEBP", method=0),
    "webp-alpha": lambda: encoded("RGBA", LARGEST, "WEBP", lossless=True, method=0),
    "webp-animated": lambda: animated("WEBP", 500, 64),
    "webp-few-large-frames": lambda: animated("WEBP", 6, 2000),
    "jpeg-progressive": lambda: encoded("RGB", LARGEST, "JPEG", progressive=True, subsampling=0),
    "jpeg-progressive-grey": lambda: encoded("L", LARGEST, "JPEG", progressive=True),
    "jpeg-colours": lambda: encoded("RGB", LARGEST, "JPEG", subsampling=0),
    "jpeg-cmyk": lambda: encoded("CMYK", LARGEST, "JPEG"),
    "jpeg-cmyk-progressive": lambda: encoded("CMYK", (3500, 3500), "JPEG", progressive=True),
    "jpeg-turned": lambda: turned(LARGEST),
    "jpeg-long": lambda: encoded("RGB", (65_000, 384), "JPEG"),
    "jpeg-exif": lambda: with_exif(5000),
    "jpeg-pictures": lambda: of_many_pictures(2**31 - 1),
    "jpeg-restarts": lambda: jpeg_with(b"\xff\xdd\0\4\0\1", 200),
    "jpeg-profiles": lambda: jpeg_with(b"\xff\xe2\xff\xffICC_PROFILE\0\1\xff" + bytes(65_519), 200),
    "png-grey-16": lambda: png(LARGEST, 16, 0),
    "png-rgb-16": lambda: png(LARGEST, 16, 2, channels=3),
    "png-rgba-16": lambda: png(LARGEST, 16, 6, channels=4),
    "png-rgba": lambda: png(LARGEST, 8, 6, channels=4),
    "png-grey-alpha": lambda: png(LARGEST, 8, 4, channels=2),
    "png-palette": lambda: png(LARGEST, 8, 3),
    "png-bits": lambda: png(LARGEST, 1, 0),
    "png-interlaced": lambda: png(LARGEST, 8, 2, interlaced=True, channels=3),
    "png-wide": lambda: png((25_000_000, 1), 8, 0),
    "png-high": lambda: png((1, 25_000_000), 8, 0),
    "png-animated": lambda: animated("PNG", 200, 64),
    "png-exif": lambda: png_with(chunk(b"eXIf", b"MM\0*\0\0\0\x08" + bytes(MIB)), 20),
    "png-international-texts": lambda: png_with(chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(MIB), 9)), 60),
    "png-longer-than-its-pixels": lambda: image()[:33] + chunk(b"IDAT", zlib.compress(bytes(30 * MIB), 9)),
}


def every() -> list[Hostile]:
    """Return all bodies, by name."""
    return [*_every()]


def _every() -> Iterator[Hostile]:
    for name, make in IMAGES.items():
        form = lambda make=make: bodies.form([("image", make(), "image/png")])[1]  # noqa: E731
        yield Hostile(f"large-{name}", PATH, FORM, form, "zstd")
