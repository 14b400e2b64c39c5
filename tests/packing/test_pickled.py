"""The names in a pickle are read without running it; a hostile file ends the reading and does nothing else."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from app.packing import pickled
from app.packing.pickle_arguments import ARGUMENTS
from app.packing.pickled import Named
from tests.packing.artifacts import Reduced

NUMBERS = np.random.default_rng(0).uniform(size=(60, 3))
LABELS = np.where(NUMBERS[:, 0] > 0.5, "high", "low")
FRAME = pd.DataFrame(NUMBERS, columns=["a", "b", "c"]).assign(word=LABELS.astype(object))
MODELS: dict[str, Callable[[], Any]] = {
    "trees": lambda: RandomForestClassifier(5).fit(NUMBERS, LABELS),
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=3).fit(NUMBERS, LABELS),
    "columns": lambda: make_pipeline(
        make_column_transformer((OneHotEncoder(), ["word"]), (StandardScaler(), ["a", "b"])), LogisticRegression()
    ).fit(FRAME, LABELS),
    "texts": lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(LABELS, LABELS),
}


@cache
def fitted(name: str) -> Any:
    """Return one of the models, fitted once."""
    return MODELS[name]()


def read(content: bytes) -> Named:
    return pickled.read(io.BytesIO(content))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", MODELS)
def test_every_pickle_protocol_is_read_to_its_end(name: str, protocol: int) -> None:
    named = read(pickle.dumps(fitted(name), protocol=protocol))
    assert (named.whole, list(named.versions)) == (True, [sklearn.__version__])
    assert any(module.startswith("sklearn.linear_model") or module.startswith("sklearn.e") for module in named.modules)


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_every_file_of_joblib_is_read_to_its_end(tmp_path: Path, name: str, compress: Any) -> None:
    joblib.dump(fitted(name), tmp_path / "model", compress=compress)
    with (tmp_path / "model").open("rb") as stream:
        named = pickled.read(stream)
    assert (named.whole, list(named.versions)) == (True, [sklearn.__version__])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.array(["a", None, 3], dtype=object),
        np.array("2026-01-01", dtype="datetime64[ns]"),
        np.array(["ab", "cde"]),
        np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array([(1, "x")], dtype=[("a", "i4"), ("b", object)]),
        np.zeros((0, 4)),
        np.array(True),
        np.asfortranarray(np.ones((3, 4), dtype=np.float32)),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_the_bytes_of_an_array_between_opcodes_are_skipped(array: Any) -> None:
    stream = io.BytesIO()
    joblib.dump({"before": array, "_sklearn_version": "1.2.2", "after": array}, stream)
    named = read(stream.getvalue())
    assert (named.whole, list(named.versions)) == (True, ["1.2.2"])


def test_the_version_of_the_outermost_object_comes_last() -> None:
    state = {
        "first": {"_sklearn_version": "1.4.2"},
        "second": {"_sklearn_version": "1.2.2"},
        "_sklearn_version": "1.4.2",
    }
    assert list(read(pickle.dumps(state)).versions) == ["1.2.2", "1.4.2"]


def test_numpy_1_and_2_are_distinguished_by_their_modules() -> None:
    content = pickle.dumps(np.float64(1.5), protocol=2)
    assert "numpy._core.multiarray" in read(content).modules
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert "numpy.core.multiarray" in read(old).modules


@pytest.mark.fault("M04")
def test_nothing_that_a_pickle_names_is_run_or_imported(tmp_path: Path) -> None:
    witness = tmp_path / "it ran"
    for function, arguments in [(os.mkdir, (str(witness),)), (exec, (f"import os; os.mkdir({str(witness)!r})",))]:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert read(pickle.dumps(Reduced(function, *arguments), protocol=protocol)).whole
    assert read(b"cno_such_module.at_all\nthing\n.").modules == {"no_such_module.at_all"}
    assert not witness.exists()


def test_the_names_before_an_early_end_are_found() -> None:
    content = pickle.dumps([{"_sklearn_version": "1.2.2"}, "something that follows"])
    for length in range(len(content)):
        named = read(content[:length])
        assert not named.whole
        assert list(named.versions) in ([], ["1.2.2"])
    assert list(read(content[:-10]).versions) == ["1.2.2"]


@pytest.mark.parametrize("opcode", [b"T", b"X", b"B"])
def test_a_length_beyond_the_end_of_the_file_takes_no_memory(opcode: bytes) -> None:
    assert not read(opcode + struct.pack("<I", 2**31 - 1) + b"short").whole
    for long_opcode in (b"\x8d", b"\x8e", b"\x96"):
        assert not read(b"\x80\x05" + long_opcode + struct.pack("<Q", 2**62) + b"short").whole


def test_an_array_declared_larger_than_the_file_takes_no_memory() -> None:
    stream = io.BytesIO()
    joblib.dump(np.arange(4.0), stream)
    content = stream.getvalue()
    assert content.count(b"K\x04\x85") == 1
    assert not read(content.replace(b"K\x04\x85", b"\x8a\x08" + b"\xff" * 7 + b"\x7f" + b"\x85")).whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"(" * 300_000, id="marks"),
        pytest.param(b"N" * 300_000, id="a deep stack"),
        pytest.param(b")" + b"\x85" * 200_000 + b".", id="tuples in tuples"),
        pytest.param(b"]" + b"\x942\x86" * 100_000 + b".", id="a doubling pair"),
        pytest.param(b"".join(b"\x8c\x08%08d\x940" % n for n in range(100_000)), id="strings kept"),
        pytest.param(b"}" + b"\x94" * 200_000 + b".", id="memo"),
        pytest.param(b"V" + b"x" * 10_000_000 + b"\n.", id="a long line"),
    ],
)
def test_hostile_pickles_take_little_memory(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_STACK", "MAX_MARKS", "MAX_KEPT"):
        monkeypatch.setattr(pickled, limit, 5_000)
    tracemalloc.start()
    try:
        read(content)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 4 * 2**20


@pytest.mark.slow
def test_a_file_that_grows_by_decompression_is_read_a_part_at_a_time(tmp_path: Path) -> None:
    joblib.dump(np.zeros(5_000_000), tmp_path / "zeros", compress=9)
    tracemalloc.start()
    try:
        with (tmp_path / "zeros").open("rb") as stream:
            assert pickled.read(stream).whole
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 8 * 2**20


def test_reading_ends_at_its_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "MAX_SECONDS", 0.0)
    assert not read(b"N0" * 100 + b".").whole


@pytest.mark.parametrize("content", [b"", b".", b"<!DOCTYPE html>", b"version https://git-lfs", b"0", b"1", b"s", b"R"])
def test_a_file_that_is_not_a_pickle_names_nothing(content: bytes) -> None:
    named = read(content)
    assert (named.versions, named.modules) == ({}, set())


def test_every_opcode_of_python_is_known() -> None:
    assert {opcode.arg.name for opcode in pickletools.opcodes if opcode.arg} == ARGUMENTS.keys()
    assert pickled.EFFECTS.keys() < {opcode.name for opcode in pickletools.opcodes}


@pytest.mark.slow
def test_damaged_files_end_the_reading_and_nothing_else() -> None:
    content = pickle.dumps(fitted("columns"))
    random = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(content)
        for place in random.integers(0, len(damaged), 4):
            damaged[place] = random.integers(0, 256)
        read(bytes(damaged))
