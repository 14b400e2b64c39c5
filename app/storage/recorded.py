"""Rows and the answers that the model gave for them at packing: other libraries must give the same answers."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from app.errors import InvalidRepository

RECORDED = "recorded.json.gz"
MAX_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Recorded:
    """Instances, and the values of each output that the model gave for them as one batch (JSON values)."""

    instances: list[dict[str, object]]
    outputs: dict[str, list[object]]


def write(folder: Path, recorded: Recorded) -> None:
    """Write the rows beside the artifact; the same rows give the same bytes."""
    (folder / RECORDED).write_bytes(gzip.compress(msgspec.json.encode(recorded), 6, mtime=0))


def read(stream: BinaryIO) -> Recorded:
    """Read the rows in an open, verified file that `write` has written."""
    try:
        with gzip.GzipFile(fileobj=stream) as content:
            recorded = msgspec.json.decode(content.read(MAX_BYTES), type=Recorded)
    except (OSError, EOFError, ValueError, msgspec.DecodeError) as error:
        raise InvalidRepository(f"{RECORDED} cannot be read: {error}") from None
    if any(len(values) != len(recorded.instances) for values in recorded.outputs.values()):
        raise InvalidRepository(f"{RECORDED} has not one value of each output for each instance")
    return recorded
