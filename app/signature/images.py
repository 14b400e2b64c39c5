"""Images: PNG, JPEG or WebP, in base64, as a data URL, or as the content of a file.

Pillow decodes them. It is imported only if an image is decoded, because it is optional.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import marshmallow as ma
import numpy as np
from numpy.typing import NDArray

from app.errors import DeadlineExceeded
from app.signature import Input, Picture, Rule, range_seen, type_name
from app.signature.arrays import NotAccepted, bytes_of, rule_of_reader
from app.signature.batch import Column
from app.signature.image_headers import (
    MAX_COMPRESSED,
    MAX_INFLATED_BYTES,
    MAX_SIDE,
    START_OF_SCAN,
    is_exif_laborious,
    is_laborious,
    png_pixels,
    webp_size,
)
from app.telemetry import check_deadline

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image as PillowImage

FORMATS = ("PNG", "JPEG", "WEBP")
CHANNELS = {"L": 1, "RGB": 3}
PIXEL_LIMIT = 25_000_000
RAISED_BY = " (a limit of the model, or RETORT_IMAGE_PIXEL_LIMIT of the server)"
BYTES_OF_A_PIXEL = 8
"""Most memory for each pixel of an image with the largest number of pixels. An image that takes more memory for each
pixel may have fewer pixels."""
STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}
"""Bytes of a pixel in Pillow's memory, by mode. A pixel of any other mode takes four."""
WEBP_BYTES = 12
"""For each pixel: libwebp has two canvases of four channels, and Pillow a copy of one."""
COEFFICIENT_BYTES = 2
"""For each pixel and channel of a progressive JPEG. libjpeg keeps all of them before it makes the first line."""
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""The member of Pillow's `Transpose` that turns the image upright, by the orientation in EXIF."""
LARGE_PIXELS = 4_000_000
TURN_WAIT_S = 10.0
"""The longest wait of a large image. The server would take a thread that waits forever for a stuck one."""
_turns = threading.Lock()
"""A process decodes one large image at a time, because decoding takes up to 20 bytes per pixel."""
IMAGES_AT_THE_LIMIT = 4
"""The images of a request may together have as many pixels as this many images of the largest size."""
DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+(?:;[a-z0-9-]+=[^;,]*)*;base64,", re.ASCII | re.IGNORECASE)
MAX_URL_HEAD_CHARS = 200
LABORIOUS = (
    "must be an image as cameras and programs write it: it has too many scans, parts, texts, colour profiles, or "
    "entries of EXIF"
)
JPEG_FORMATS = ("JPEG", "MPO")
ORIENTATION = 0x0112
SCANS_AT_THE_LIMIT = 10
"""Most scans of an image with the largest number of pixels."""
NOT_AN_IMAGE = "must be a PNG, JPEG or WebP image"
BROKEN = "must be a whole PNG, JPEG or WebP image; it is truncated or broken"


class Image:
    """An image in base64, with or without the head of a data URL. A value of type bytes is the content of a file."""

    field_class = ma.fields.Raw

    def rule(self, spec: Input) -> Rule:
        """Return the rule: whole images with at most the limit of pixels."""
        picture_of(spec)
        pillow()
        return rule_of_reader(array_of, spec)

    def column(self, values: Sequence[Any], spec: Input) -> Column | None:
        """Return the column of the input's dtype, shape (rows, height, width) or (rows, height, width, 3) for RGB."""
        column = np.empty((len(values), *shape_of(picture_of(spec))), dtype=spec.dtype)
        try:
            for row, value in enumerate(values):
                check_deadline()
                column[row] = array_of(value, spec)
        except NotAccepted:
            return None
        return column

    def describe(self, spec: Input) -> str:
        """Describe how clients send the image, and how the model sees it."""
        picture = picture_of(spec)
        scaled = f", each pixel / {picture.divisor:g} + {picture.offset:g}"
        scaled = scaled if (picture.divisor, picture.offset) != (1.0, 0.0) else ""
        seen = f"; {range_seen(spec)}" if range_seen(spec) else ""
        return (
            f"a PNG, JPEG or WebP image in base64 or as a data URL; the model sees it in mode {picture.mode} with "
            f"{picture.width} by {picture.height} pixels{scaled}{seen}"
        )

    def schema(self, spec: Input) -> dict[str, Any]:
        """Return the schema of a string, or of an object with one."""
        b64 = {"b64": {"type": "string"}}
        return {"type": ["string", "object"], "properties": b64, "required": ["b64"], "additionalProperties": False}


def pillow() -> ModuleType:
    """Return Pillow's module of images; raise ImportError if it is not installed.

    Pillow's own limit of pixels only warns; it is disabled, because ours is lower and refuses. Pillow's limits of texts
    are lowered. Its warnings of damaged EXIF are disabled, because they would fill the log.
    """
    from PIL import Image as module
    from PIL import PngImagePlugin

    module.MAX_IMAGE_PIXELS = None
    if PngImagePlugin.MAX_TEXT_CHUNK != MAX_INFLATED_BYTES:
        PngImagePlugin.MAX_TEXT_CHUNK = MAX_INFLATED_BYTES
        PngImagePlugin.MAX_TEXT_MEMORY = MAX_INFLATED_BYTES * MAX_COMPRESSED
        warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
    return module


def picture_of(spec: Input) -> Picture:
    """Return the conversion of an image; raise ValueError if the input has none or an impossible one."""
    picture = spec.image
    if picture is None or picture.mode not in CHANNELS or picture.width < 1 or picture.height < 1:
        raise ValueError("an image has a mode (L or RGB), a width and a height")
    if not picture.divisor or spec.shape != shape_of(picture) or not spec.dtype.startswith("float"):
        raise ValueError("an image has a divisor that is not 0, the shape of its pixels, and a dtype of floats")
    return picture


def shape_of(picture: Picture) -> tuple[int, ...]:
    """Return the shape of an image as the model sees it."""
    return (picture.height, picture.width, 3) if picture.mode == "RGB" else (picture.height, picture.width)


def array_of(value: object, spec: Input) -> NDArray[Any]:
    """Return the image as the model sees it; raise NotAccepted if it is not one, or is too large.

    Raises:
        DeadlineExceeded: it is large, and its turn did not come.
    """
    picture = picture_of(spec)
    content = _content_of(value)
    width, height = webp_size(content)
    limit = _limit_of(picture) * BYTES_OF_A_PIXEL // max(BYTES_OF_A_PIXEL, WEBP_BYTES + 4)
    if width * height > limit:  # before Pillow makes room for it
        raise NotAccepted(f"must have at most {limit} pixels{RAISED_BY} as a WebP, not {width} by {height}")
    if is_laborious(content):
        raise NotAccepted(LABORIOUS)
    try:
        with _turn(width * height), pillow().open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image, content, picture)
            if is_exif_laborious(image.info):
                raise NotAccepted(LABORIOUS)
            with _turn(0 if width else image.width * image.height):
                if image.format == "PNG":  # Pillow decodes a PNG without its end
                    with pillow().open(io.BytesIO(content), formats=FORMATS) as again:
                        again.verify()
                pixels = _pixels(image, picture)
    except (NotAccepted, DeadlineExceeded):
        raise
    except Exception as error:  # noqa: BLE001 (decoders may raise anything)
        raise NotAccepted(NOT_AN_IMAGE if type(error).__name__ == "UnidentifiedImageError" else BROKEN) from None
    return (pixels / picture.divisor + picture.offset).astype(spec.dtype)


def one_too_many(values: Sequence[object], spec: Input) -> tuple[int, str] | None:
    """Return the position of the image that exceeds the limit of all pixels together, with the message; else None.

    Only headers are read. Broken images, and images that are too large on their own, are not counted.
    """
    limit, together = _limit_of(picture_of(spec)), 0
    most = limit * IMAGES_AT_THE_LIMIT
    if len(values) <= IMAGES_AT_THE_LIMIT:
        return None
    for position, value in enumerate(values):
        check_deadline()
        pixels = _declared_pixels(value)
        together += pixels if pixels <= limit else 0
        if together > most:
            detail = f"is one too many: the images of a request must have at most {most} pixels together{RAISED_BY}"
            return position, detail
    return None


def encoded(array: NDArray[Any], picture: Picture) -> str:
    """Return the PNG in base64 that is closest to this array; packing makes examples with it."""
    from base64 import b64encode

    pixels = np.clip(np.rint((array - picture.offset) * picture.divisor), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    pillow().fromarray(pixels).save(stream, "PNG")
    return b64encode(stream.getvalue()).decode()


def _content_of(value: object) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is dict and [*value] == ["b64"]:
        value = value["b64"]
    if type(value) is not str:
        raise NotAccepted(f"must be an image in base64 or as a data URL, not {type_name(value)}")
    head = DATA_URL.match(value, 0, MAX_URL_HEAD_CHARS) if value[:5].lower() == "data:" else None
    return bytes_of(value[head.end() :] if head else value)


def _check_size(image: PillowImage, content: bytes, picture: Picture) -> None:
    """Refuse an image whose header says that it takes too much memory or time."""
    limit, pixels, size = _limit_of(picture), image.width * image.height, f"{image.width} by {image.height}"
    if pixels > limit:
        raise NotAccepted(f"must have at most {limit} pixels{RAISED_BY}, not {size}")
    if max(image.size) > MAX_SIDE:
        raise NotAccepted(f"must have sides of at most {MAX_SIDE} pixels, not {size}")
    taken_bytes = _bytes_of_a_pixel(image, content, picture)
    if pixels * taken_bytes > limit * BYTES_OF_A_PIXEL:
        most = limit * BYTES_OF_A_PIXEL // taken_bytes
        raise NotAccepted(f"must have at most {most} pixels{RAISED_BY} in this form of {image.format}, not {size}")
    scans = content.count(START_OF_SCAN)
    if image.format in JPEG_FORMATS and pixels * scans > limit * SCANS_AT_THE_LIMIT:
        raise NotAccepted(f"must have fewer scans for its size: it has {scans}, of {size} pixels")


def _bytes_of_a_pixel(image: PillowImage, content: bytes, picture: Picture) -> int:
    """Return how much memory each pixel takes while the image is decoded.

    For a PNG it is at least twice its bytes in the file, which stand for the time that they take.
    """
    stored = STORED_BYTES.get(image.mode, 4)
    converted = 0 if image.mode == picture.mode else STORED_BYTES.get(picture.mode, 4)
    if image.mode.startswith("I"):
        converted += stored + 1
    elif image.mode == "CMYK" and picture.mode != "RGB":
        converted += 4
    if image.format == "WEBP":
        return WEBP_BYTES + stored + converted
    if image.format in JPEG_FORMATS and image.info.get("progressive"):
        return COEFFICIENT_BYTES * len(image.getbands()) + stored + converted
    if image.format == "PNG":
        depth, color = content[24], content[25]
        return max(stored + converted, 2 * (depth * PNG_CHANNELS.get(color, 4)) // 8)
    return stored + converted


def _pixels(image: PillowImage, picture: Picture) -> NDArray[np.float64]:
    """Return the first frame, turned as its EXIF orientation says, in the mode and size of the picture."""
    module = pillow()
    image.load()
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    frame: PillowImage = image
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut at 255: the upper of each two bytes
        grey = np.asarray(image)
        upper = grey.view(np.uint8).reshape(*grey.shape, grey.itemsize)[:, :, 1 if grey.dtype.byteorder != ">" else 0]
        frame = module.fromarray(np.ascontiguousarray(upper))
    if frame.mode != picture.mode:
        frame = frame.convert(picture.mode)
    if turn is not None:  # after the conversion, which may make it smaller
        frame = frame.transpose(module.Transpose(turn))
    if frame.size != (picture.width, picture.height):
        frame = frame.resize((picture.width, picture.height), module.Resampling.BOX)
    return np.asarray(frame, dtype=np.float64)


@contextlib.contextmanager
def _turn(pixels: int) -> Iterator[None]:
    """Wait for the turn of a large image; raise DeadlineExceeded if it does not come within `TURN_WAIT_S`."""
    if pixels <= LARGE_PIXELS:
        yield
        return
    if not _turns.acquire(timeout=TURN_WAIT_S):
        raise DeadlineExceeded(TURN_WAIT_S)
    try:
        yield
    finally:
        _turns.release()


def _limit_of(picture: Picture) -> int:
    return picture.pixel_limit or PIXEL_LIMIT


def _declared_pixels(value: object) -> int:
    try:
        content = _content_of(value)
        if is_laborious(content):
            return 0
        if (pixels := png_pixels(content)) is not None:
            return pixels
        width, height = webp_size(content)
        if not width:
            with pillow().open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
    except Exception:  # noqa: BLE001 (`array_of` reports it)
        return 0
    return width * height
