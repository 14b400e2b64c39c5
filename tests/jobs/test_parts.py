"""Parts: whole rows, every row once, the same ones each time."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import ScoringRefused
from app.jobs import parts
from app.jobs.locations import sources_of
from app.jobs.parts import Part, parts_of, rows_of_a_part
from app.jobs.reading import read_table, rows_of_csv
from app.signature import Input, Layout, Signature
from tests.jobs.files import write

SIGNATURE = Signature(
    (Input("t", "text", "str"), Input("n", "number", "float64", nullable=True)),
    ("prediction",),
    ("prediction",),
    Layout.FRAME,
)
CELL = st.text(st.sampled_from('ab,"\n 1'), max_size=5)


def all_parts(path: Path, done: int = 0) -> list[Part]:
    return list(parts_of(sources_of(str(path)), SIGNATURE, (), done))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(CELL, max_size=40), end=st.sampled_from(["\n", "\r\n"]), size=st.integers(1, 60))
def test_csv_is_cut_between_rows(
    rows: list[str], end: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "TEXT_BYTES", size)
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end).writerows([["t", "n"], *([cell, at] for at, cell in enumerate(rows))])
    path = tmp_path / "in.csv"
    path.write_bytes(out.getvalue().encode())
    found = [(line, row) for part in all_parts(path) for line, row in rows_of_csv(part)]
    assert [row for _, row in found] == [[cell, str(at)] for at, cell in enumerate(rows)]
    reader = csv.reader(io.StringIO(out.getvalue(), newline=""))
    lines = [1 + before for before in [0, *(reader.line_num for _ in reader)][1:-1]]
    assert [line for line, _ in found] == lines


@pytest.mark.parametrize("name", ["in.parquet", "in.arrow", "in.arrows", "in.csv", "in.ndjson"])
def test_parts_that_are_done_are_left_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "TEXT_BYTES", 300)
    monkeypatch.setattr(parts, "MOST_ROWS", 30)
    table = pd.DataFrame({"t": ["ab"] * 200, "n": np.arange(200.0)})
    path = write(table, tmp_path / name)
    if name == "in.parquet":
        table.to_parquet(path, index=False, row_group_size=45)
    whole = all_parts(path)
    assert len(whole) > 5
    assert [part.number for part in whole] == list(range(len(whole)))
    for done in (0, 1, 3, len(whole)):
        assert all_parts(path, done) == whole[done:]
    if name != "in.ndjson":
        numbers = [value for part in whole for value in read_table(part, SIGNATURE, ()).columns["n"].to_pylist()]
        assert numbers == table["n"].tolist()


def test_the_first_row_is_a_header_only_if_it_names_features(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("a,1\nb,2\n")
    [part] = all_parts(path)
    assert (part.names, part.first, part.content) == (("t", "n"), 1, b"a,1\nb,2\n")
    path.write_bytes(b'\xef\xbb\xbf\n"n",t,more\n1,a,x\n')
    [part] = all_parts(path)
    assert (part.names, part.first, part.content) == (("n", "t", "more"), 3, b"1,a,x\n")


def test_an_endless_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "TEXT_BYTES", 100)
    monkeypatch.setattr(parts, "MOST_RECORD_BYTES", 1000)
    path = tmp_path / "in.csv"
    path.write_text('t,n\n"a' + "b,1\n" * 1000)
    with pytest.raises(ScoringRefused, match="longer than 1000 bytes, the most that is read, or a quote is opened"):
        all_parts(path)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "in.csv").touch()
    assert all_parts(tmp_path / "in.csv") == []
    write(pd.DataFrame({"t": pd.Series([], dtype=str), "n": pd.Series([], dtype=float)}), tmp_path / "in.parquet")
    assert all_parts(tmp_path / "in.parquet") == []


def test_wide_rows_make_smaller_parts() -> None:
    assert rows_of_a_part([pa.float64()] * 2) == parts.MOST_ROWS
    assert rows_of_a_part([pa.float64()] * 30) == parts.TABLE_BYTES // 240
    assert rows_of_a_part([pa.string()] * 10**6) == 1
