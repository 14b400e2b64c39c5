"""Stretches: a worker that sees a file reads exactly the same parts as the process of the command."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from app.errors import ScoringRefused
from app.jobs import parts, table_parts
from app.jobs.input_parts import InputParts
from app.jobs.locations import sources_of
from app.jobs.parts import Part
from app.jobs.stretches import InputUnseen, Stretch, parts_of_stretches
from app.signature import Input, Layout, Signature
from tests.jobs.files import write

SIGNATURE = Signature(
    (Input("t", "text", "str"), Input("n", "number", "float64", nullable=True)),
    ("prediction",),
    ("prediction",),
    Layout.FRAME,
)
TABLE = pd.DataFrame({"t": ['a"b', "c,d", None, "e\nf"] * 50, "n": np.arange(200.0), "more": 1})


def input_of(path: Path, done: int = 0) -> InputParts:
    return InputParts(sources_of(str(path)), SIGNATURE, ("more",), done)


def read(found: Stretch | Part) -> list[Part]:
    return [found] if isinstance(found, Part) else list(found.read(SIGNATURE, ("more",)))


def plain(part: Part) -> Part:
    """Return a part whose rows can be compared."""
    if part.form != "arrow":
        return replace(part, begins=0)
    table = part.table if part.table is not None else pa.ipc.open_stream(part.content).read_all()
    return replace(part, content=b"", table=table.to_pylist(), end=round(part.end, 9))


@pytest.fixture
def many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "TEXT_BYTES", 300)
    monkeypatch.setattr(table_parts, "MOST_ROWS", 13)


@pytest.mark.usefixtures("many_parts")
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        *((name, pieces) for name in ("in.parquet", "in.arrow") for pieces in (200, 45, 5)),
        *((name, 0) for name in ("in.arrows", "in.csv", "in.csv.gz", "in.ndjson")),  # written in one piece
    ],
)
def test_a_stretch_has_the_parts_that_would_be_read(name: str, pieces: int, workers: int, tmp_path: Path) -> None:
    for year in (2025, 2026):
        (tmp_path / f"year={year}").mkdir()
        path = write(TABLE, tmp_path / f"year={year}" / name)
        if name == "in.parquet":
            TABLE.to_parquet(path, index=False, row_group_size=pieces)
        elif name == "in.arrow":
            TABLE.to_feather(path, chunksize=pieces)
    wanted = [plain(part) for part in input_of(tmp_path).read()]
    assert len(wanted) > 10
    for done in (0, 1, 9, len(wanted) - 1, len(wanted)):
        named = list(input_of(tmp_path, done).stretches(workers))
        assert all(isinstance(found, Stretch) is (name not in ("in.arrows", "in.csv.gz")) for found in named)
        assert [plain(part) for found in named for part in read(found)] == wanted[done:]


@pytest.mark.usefixtures("many_parts")
@pytest.mark.parametrize("name", ["in.parquet", "in.arrow", "in.csv"])
def test_a_file_without_rows_has_columns(name: str, tmp_path: Path) -> None:
    path = write(TABLE.head(0), tmp_path / name)
    assert [plain(part) for found in input_of(path).stretches(2) for part in read(found)] == [
        plain(part) for part in input_of(path).read()
    ]


@pytest.mark.usefixtures("many_parts")
def test_a_worker_that_does_not_see_the_file_reports_it(tmp_path: Path) -> None:
    path = write(TABLE, tmp_path / "in.parquet")
    named = list(input_of(path).stretches(2))
    path.rename(tmp_path / "moved.parquet")
    with pytest.raises(InputUnseen, match="does not see the input"):
        read(named[0])


@pytest.mark.usefixtures("many_parts")
def test_another_file_of_the_same_name_size_and_time_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    path = write(TABLE, tmp_path / "here" / "in.csv")
    [found, *_] = input_of(path).stretches(2)
    assert isinstance(found, Stretch)
    other = tmp_path / "in.csv"
    other.write_bytes(path.read_bytes().replace(b"c,d", b"c,e"))
    seen = path.stat()
    os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(InputUnseen, match="sees another file as"):
        read(replace(found, source=replace(found.source, name=str(other))))


@pytest.mark.usefixtures("many_parts")
def test_a_file_that_changes_while_a_worker_reads_it_ends_the_run(tmp_path: Path) -> None:
    path = write(TABLE, tmp_path / "in.csv")
    [found, *_] = input_of(path).stretches(2)
    assert isinstance(found, Stretch)
    reading = found.read(SIGNATURE, ())
    next(reading)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ScoringRefused, match="changed while it was read"):
        next(reading)


@pytest.mark.parametrize(
    ("parts", "runs", "workers", "stretches"),
    [
        (30, 4, 2, [[30], [30], [30], [30]]),
        (30, 3, 2, [[30], [30], [19, 11]]),  # otherwise one worker has two of them, and the other has one
        (30, 1, 3, [[15, 9, 6]]),
        (30, 2, 4, [[19, 11], [19, 11]]),
        (1, 5, 4, [[1], [1], [1], [1], [1]]),
        (70, 2, 2, [[32, 32, 6], [32, 32, 6]]),  # a limit of memory
    ],
)
def test_row_groups_are_cut_only_to_keep_all_workers_busy(
    parts: int, runs: int, workers: int, stretches: list[list[int]]
) -> None:
    assert [parts_of_stretches(parts, runs, left, workers) for left in range(runs, 0, -1)] == stretches
