"""Tests of pickles as bodies: whatever their media type, nothing in them runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest

from tests.wire.codecs import bodies
from tests.wire.codecs.conftest import Sends

MAKES = (bodies.as_json, bodies.as_ndjson, bodies.as_msgpack, bodies.as_csv, bodies.as_parquet, bodies.as_arrow)
MAKES += (bodies.as_npy, bodies.as_npz, bodies.as_multipart)
MEDIA_TYPES = [make([{"feature1": 5.1, "feature2": 3.5}])[0] for make in MAKES]
MEDIA_TYPES += ["application/octet-stream", "application/x-python-serialize", "application/x-www-form-urlencoded"]


class Touch:
    """Make a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.canary),)


def dumped(touch: Touch) -> list[bytes]:
    """Return a pickle, the same as joblib writes it, and arrays of objects in an npy and an npz file."""
    streams = [io.BytesIO() for _ in range(3)]
    joblib.dump(touch, streams[0])
    np.save(streams[1], np.array([[touch, touch]], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(streams[2], "w") as archive:
        archive.writestr("a.npy", streams[1].getvalue())
    return [pickle.dumps(touch), *(stream.getvalue() for stream in streams)]


@pytest.mark.fault("B06", "X01")
@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_nothing_in_a_body_is_unpickled(ask: Sends, tmp_path: Path, media_type: str) -> None:
    for content in dumped(Touch(tmp_path / "canary")):
        assert ask(media_type, content).status in {400, 413, 415, 422}
        assert list(tmp_path.iterdir()) == []


def test_the_pickle_would_run(tmp_path: Path) -> None:
    pickle.loads(dumped(Touch(tmp_path / "canary"))[0])
    assert (tmp_path / "canary").is_dir()
