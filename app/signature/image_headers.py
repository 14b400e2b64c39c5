"""Read the size and the number of parts of an encoded image from its bytes, before Pillow opens it."""

from __future__ import annotations

import re
import struct
from itertools import islice

from app.signature.exif import MAX_COMPRESSED, compressed_parts, is_jpeg_laborious

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


def is_laborious(content: bytes) -> bool:
    """Return whether an image has far more parts than usual; Pillow reads each of them in Python."""
    if content.count(START_OF_SCAN) > MAX_SCANS:
        return True
    most = MAX_PARTS + len(content) // BYTES_OF_A_PART
    if content.startswith(PNG):
        return compressed_parts(content) > MAX_COMPRESSED or _png_chunks(content, most) > most
    if not content.startswith(JPEG):
        return False
    return sum(1 for _ in islice(JPEG_SEGMENT.finditer(content), most + 1)) > most or is_jpeg_laborious(content)


def _png_chunks(content: bytes, most: int) -> int:
    """Return the number of chunks of a PNG (PNG specification, section 5.3), up to one more than `most`."""
    at, chunks = len(PNG), 0
    while at < len(content) and chunks <= most:
        at += CHUNK_FRAME_BYTES + int.from_bytes(content[at : at + 4], "big")
        chunks += 1
    return chunks


def png_size(content: bytes) -> tuple[int, int]:
    """Return the width and height of a PNG (PNG specification, section 11.2.1), without reading its other chunks.

    If the size stands elsewhere, the image is as expensive as allowed.
    """
    if content[12:16] != b"IHDR":
        return MAX_SIDE, 1
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


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
