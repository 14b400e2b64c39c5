"""Parts: whole rows, every row once, the same ones each time."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import ScoringRefused
from app.jobs import parts, table_parts
from app.jobs.input_parts import parts_of
from app.jobs.locations import sources_of
from app.jobs.parts import Part
from app.jobs.reading import read_table, rows_of_csv
from app.jobs.table_parts import rows_of_a_part
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
    monkeypatch.setattr(table_parts, "MOST_ROWS", 30)
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


def test_a_file_without_rows_has_one_part_with_its_columns(tmp_path: Path) -> None:
    for content, first in [("", 1), ("n,t\n", 2), ("n,t", 1), ("\n\nn,t\n\n", 4)]:
        (tmp_path / "in.csv").write_text(content)
        [part] = all_parts(tmp_path / "in.csv")
        assert (sorted(part.names), part.content.strip(), part.first) == (["n", "t"], b"", first)
    nothing = pd.DataFrame({"t": pd.Series([], dtype=str), "n": pd.Series([], dtype=float)})
    for name in ("in.parquet", "in.arrow", "in.arrows"):
        [part] = all_parts(write(nothing, tmp_path / name))
        assert pa.ipc.open_stream(part.content).read_all().column("n").type == pa.float64()


@pytest.mark.parametrize(
    ("rows", "line"), [('"a,1\nb,2\n', 2), ('b,2\n"two\nlines",3\n"""a"" ""\nb,2\n', 5), ('b,"2', 2), ('b,2\n"', 3)]
)
def test_a_quote_that_is_never_closed_is_refused(rows: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(f"t,n\n{rows}")
    with pytest.raises(ScoringRefused, match=f"the quote on line {line} is never closed"):
        all_parts(tmp_path / "in.csv")
    (tmp_path / "in.csv").write_text(f't,n\n{rows}"')
    all_parts(tmp_path / "in.csv")


@pytest.mark.parametrize("name", ["in.csv", "in.ndjson"])
def test_very_short_rows_make_more_parts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_LINES", 50)
    rows = [f'"{"x" * (at % 7)}\n",{at}' if at % 5 == 0 else f"a,{at}" for at in range(400)]
    (tmp_path / name).write_text("n,t\n" + "\n".join(rows) + "\n")
    found = all_parts(tmp_path / name)
    assert b"".join(part.content for part in found).decode().removeprefix("n,t\n") == "\n".join(rows) + "\n"
    assert max(part.content.count(b"\n") for part in found) <= 50
    assert len(found) < 30
    if name == "in.csv":
        read = [row for part in found for row in csv.reader(io.StringIO(part.content.decode()))]
        assert [int(row[1]) for row in read] == list(range(400))


def test_a_header_with_very_many_lines_in_quotes_takes_time_like_its_length() -> None:
    def took_s(lines: int) -> float:
        content = b'a,"' + b"\n" * lines + b'"\n1,2\n'
        began_s = time.process_time()
        assert parts._end_of_first_row(content) == len(content) - 4
        return time.process_time() - began_s

    assert took_s(160_000) < 40 * max(took_s(10_000), 0.001)  # quadratic time would be 256 times as long


def test_lines_that_end_with_cr_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"t,n\ra,1\r")
    with pytest.raises(ScoringRefused, match="its lines end with CR alone"):
        all_parts(tmp_path / "in.csv")


def test_only_columns_that_are_used_must_have_different_names(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("t,n,,,x,x\na,1,2,3,4,5\n")
    assert len(all_parts(tmp_path / "in.csv")) == 1
    (tmp_path / "in.csv").write_text("t,n,t\na,1,2\n")
    with pytest.raises(ScoringRefused, match="more than one column named t"):
        all_parts(tmp_path / "in.csv")


@pytest.mark.slow
def test_wide_rows_make_smaller_parts() -> None:
    assert rows_of_a_part([pa.float64()] * 2) == table_parts.MOST_ROWS
    assert rows_of_a_part([pa.float64()] * 30) == table_parts.TABLE_BYTES // 240
    assert rows_of_a_part([pa.string()] * 200_000) == 1


@pytest.mark.parametrize(
    ("content", "first"),
    [
        (b't,n\n"a",1\n', b"t,n\n"),
        (b'\n\r\n"t",n\r\nb,1\n', b'\n\r\n"t",n\r\n'),
        (b'"t\n""\n",n\na,1\n', b'"t\n""\n",n\n'),
        (b'"t\n","\n"\na,1\n', b'"t\n","\n"\n'),
        (b'"t\n\n', b'"t\n\n'),
        (b't"\n"\n",n\n', b't"\n'),
        (b"t,n", b"t,n"),
    ],
)
def test_the_first_row_ends_at_the_first_line_end_outside_of_quotes(content: bytes, first: bytes) -> None:
    assert content[: parts._end_of_first_row(content)] == first


def test_a_header_of_very_many_lines_and_names_is_read_once(tmp_path: Path) -> None:
    for number, header in enumerate((b'"' + b"\n" * 2**20 + b'",n,x\n', b",".join([b"t,n"] * 200_000) + b"\n")):
        path = tmp_path / f"in-{number}.csv"
        path.write_bytes(header + b"a,1\n")
        with pytest.raises(ScoringRefused):
            all_parts(path)
