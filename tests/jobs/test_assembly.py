"""Parts with different types of a column become one table without loss or change of a value."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import ScoringRefused
from app.jobs import assembly
from app.jobs.assembly import Assembly
from app.jobs.table_parts import bytes_of

ms, ns = (pa.array([1_000_000]).cast(pa.timestamp("ns")).cast(pa.timestamp(unit)) for unit in ("ms", "ns"))


@pytest.fixture(params=["all at once", "each by itself"])
def groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the number of parts in a row group."""
    if request.param == "each by itself":
        monkeypatch.setattr(assembly, "ROWS_OF_A_GROUP", 1)


def assembled(columns: Sequence[Any], folder: Path, name: str = "parquet") -> Any:
    """Return the column of a file written from parts, some of them finished by an earlier run."""
    streams = [bytes_of(pa.table({"kept": column})) for column in columns]
    parts, target = folder / "parts", folder / "target"
    parts.write_bytes(b"".join(streams[:1]))
    with closing(Assembly(parts, target, name)) as made:
        made.add_all()
        for stream in streams[1:]:
            with parts.open("ab") as file:
                file.write(stream)
            made.add(stream)
        made.finish()
    read = pq.read_table if name == "parquet" else lambda path: pa.ipc.open_file(BytesIO(path.read_bytes())).read_all()
    return read(target)["kept"]


@pytest.mark.parametrize("name", ["parquet", "arrow"])
@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ([pa.array([1, 2]), pa.array([1.5, None])], pa.array([1, 2, 1.5, None])),
        ([pa.array([1.5, None]), pa.array([1, 2])], pa.array([1.5, None, 1, 2])),
        ([pa.array([1], pa.int8()), pa.array([2**40])], pa.array([1, 2**40])),
        ([pa.nulls(1), pa.array(["a"])], pa.array([None, "a"])),
        ([pa.array(["a"]), pa.nulls(1), pa.array(["b"])], pa.array(["a", None, "b"])),
        ([pa.nulls(1), pa.array([1]), pa.array([0.5])], pa.array([None, 1, 0.5])),
        ([pa.array([1]), pa.array(["a"])], pa.array(["1", "a"])),
        ([pa.array(["a"]), pa.array([1])], pa.array(["a", "1"])),
        ([pa.array([True]), pa.array([2])], pa.array(["true", "2"])),
        ([ms, ns], pa.concat_arrays([ns, ns])),
        ([pa.array([], pa.string()), pa.array([1]), pa.array([], pa.string())], pa.array([1])),
        ([pa.array([], pa.string()), pa.array([], pa.int64())], pa.array([], pa.int64())),
    ],
)
@pytest.mark.usefixtures("groups")
def test_a_column_has_the_type_that_holds_all_parts(columns: Any, wanted: Any, name: str, tmp_path: Path) -> None:
    found = assembled(columns, tmp_path, name)
    assert (found.type, found.combine_chunks()) == (wanted.type, wanted)


@pytest.mark.parametrize(
    "columns",
    [
        [pa.array([1.5]), pa.array([2**60 + 1])],
        [pa.array([2**60 + 1]), pa.array([1.5])],
        [pa.array([[1]]), pa.array([["a"]])],
    ],
)
@pytest.mark.usefixtures("groups")
def test_values_that_no_type_holds_are_refused(columns: Any, tmp_path: Path) -> None:
    with pytest.raises(ScoringRefused, match="one file of parquet does not hold all kept values: "):
        assembled(columns, tmp_path)
