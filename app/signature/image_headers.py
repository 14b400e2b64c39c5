"""Read the size and the parts of an encoded image from its bytes, before Pillow opens it.

Pillow reads EXIF, texts and profiles in Python, which may take far longer than the pixels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from itertools import islice
from typing import Any

MAX_SIDE = 65_535
"""The limit of JPEG; Pillow keeps a pointer for each line."""
START_OF_SCAN = b"\xff\xda"
"""A marker of JPEG (ITU T.81 B.1.1.3). In coded data, byte FF is never followed by DA."""
MAX_SCANS = 64
"""A progressive JPEG has about ten scans; each takes another pass through the whole image."""
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
CHUNK_FRAME_BYTES = 12
"""The length, type and checksum of a PNG chunk."""
JPEG_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd8-\xff]")
"""Markers that coded data cannot contain (ITU T.81 B.1.1.2)."""
MAX_PARTS, BYTES_OF_A_PART = 64, 256
"""Most chunks or segments of an image, plus one for each `BYTES_OF_A_PART`. Usual ones have 8 KiB or more."""
MAX_ENTRIES = 64
"""Most entries in the first directory of EXIF, which has the orientation. Cameras write about 15."""
MAX_INFLATED_BYTES = 2**16
"""Most bytes of a compressed text or colour profile in a PNG, and of all texts together four times as many."""
MAX_COMPRESSED = 4
"""Most compressed texts and colour profiles in a PNG."""
PIXELS_OF_A_COMPRESSED_PART = 200_000
"""A compressed text or colour profile of a PNG takes at most as long as this many pixels."""
COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
PREFIX = b"Exif\0\0"
IN_JPEG = re.compile(rb"\xff\xe1(..)Exif\0\0", re.DOTALL)
LITTLE_ENDIAN = b"II"
BIG_TIFF = (b"\0+", b"+\0")
RAW_PROFILE = "Raw profile type exif"
RAW_HEAD_LINES = 3


def is_laborious(content: bytes) -> bool:
    """Return whether an image has far more parts than usual. Pillow reads each part in Python, which is slow."""
    if content.count(START_OF_SCAN) > MAX_SCANS:
        return True
    most = MAX_PARTS + len(content) // BYTES_OF_A_PART
    if content.startswith(PNG):
        return _compressed_parts(content) > MAX_COMPRESSED or _png_chunks(content, most) > most
    if not content.startswith(JPEG):
        return False
    return sum(1 for _ in islice(JPEG_SEGMENT.finditer(content), most + 1)) > most or _is_jpeg_laborious(content)


def _png_chunks(content: bytes, most: int) -> int:
    """Return the number of chunks of a PNG (PNG specification, section 5.3), up to one more than `most`."""
    at, chunks = len(PNG), 0
    while at < len(content) and chunks <= most:
        at += CHUNK_FRAME_BYTES + int.from_bytes(content[at : at + 4], "big")
        chunks += 1
    return chunks


def png_pixels(content: bytes) -> int | None:
    """Return the pixels of a PNG, plus as many as take as long as its compressed parts; None for other formats.

    If the size is not where it belongs (PNG specification, section 11.2.1), count `MAX_SIDE` pixels.
    """
    if not content.startswith(PNG):
        return None
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    pixels = width * height if content[12:16] == b"IHDR" else MAX_SIDE
    return pixels + PIXELS_OF_A_COMPRESSED_PART * _compressed_parts(content)


def webp_size(content: bytes) -> tuple[int, int]:
    """Return the width and height in the header of a WebP (RFC 9649 section 2); 0, 0 for other formats.

    Pillow would allocate memory for the image when it opens one.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP" or len(content) < 30:
        return 0, 0
    if content[12:16] == b"VP8X":
        return int.from_bytes(content[24:27], "little") + 1, int.from_bytes(content[27:30], "little") + 1
    if content[12:16] == b"VP8L":
        (bits,) = struct.unpack("<I", content[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if content[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", content[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _compressed_parts(png: bytes) -> int:
    """Return how many compressed texts and profiles a PNG may have."""
    return sum(map(png.count, COMPRESSED))


def _is_jpeg_laborious(content: bytes) -> bool:
    """Return whether the EXIF of a JPEG has too many entries, or its directory is in another segment."""
    segments = ((found.start() + 4, int.from_bytes(found[1], "big") - 2) for found in IN_JPEG.finditer(content))
    return any(_has_many_entries(content[at : at + size_bytes], or_none=True) for at, size_bytes in segments)


def is_exif_laborious(read: Mapping[Any, Any]) -> bool:
    """Return whether the EXIF in `read`, Pillow's `info` of an image, has too many entries."""
    exif = read.get("exif")
    if exif is None and RAW_PROFILE in read:
        try:
            exif = bytes.fromhex("".join(read[RAW_PROFILE].split("\n")[RAW_HEAD_LINES:]))
        except ValueError:
            return True
    return isinstance(exif, bytes) and _has_many_entries(exif)


def _has_many_entries(exif: bytes, or_none: bool = False) -> bool:
    """Return whether a TIFF directory has too many entries, or, with `or_none`, is not in these bytes."""
    content = exif.removeprefix(PREFIX).removeprefix(PREFIX)
    if content[2:4] in BIG_TIFF:
        return True
    order = "little" if content[:2] == LITTLE_ENDIAN else "big"
    at = int.from_bytes(content[4:8], order)  # type: ignore[arg-type]
    entries = content[at : at + 2]
    return or_none if len(entries) < 2 else int.from_bytes(entries, order) > MAX_ENTRIES  # type: ignore[arg-type]
