"""A sample is read, and its columns are compared with those of the model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from app.errors import PackingRefused
from app.packing.sample import fitted_to, read
from app.packing.sample.expected import Expected
from tests.packing.artifacts import flowers

WRITERS = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "CSV": lambda frame, path: frame.to_csv(path, index=False),
    "parquet": lambda frame, path: frame.to_parquet(path),
    "json": lambda frame, path: frame.to_json(path, orient="records"),
}


def refusal(path: Path, target: str | tuple[str, ...] | None = None) -> str:
    with pytest.raises(PackingRefused) as caught:
        read(path, target)
    return caught.value.detail


@pytest.mark.parametrize("suffix", WRITERS)
def test_each_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    WRITERS[suffix](flowers(), path)
    frame = read(path, "species").frame
    expected = flowers().drop(columns="species")
    assert list(frame.columns) == list(expected.columns)
    assert frame.dtypes[["length", "petals", "scented"]].astype(str).tolist() == ["float64", "int64", "bool"]
    assert frame["length"].tolist()[4:] == expected["length"].tolist()[4:]
    assert frame["colour"].isna().tolist() == expected["colour"].isna().tolist()


def test_several_targets_are_no_inputs(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("1.5,2,x,10\n2.5,3,y,20\n")
    sample = read(path, ("kind", "size"), Expected(names=("a", "b"), width=2))
    assert sample.frame.to_dict("list") == {"a": [1.5, 2.5], "b": [2, 3]}
    assert sample.target is None
    path.write_text("kind,a,size,b\nx,1.5,10,2\n")
    assert [*read(path, ("kind", "size")).frame.columns] == ["a", "b"]
    assert refusal(path, ("kind", "sice")).endswith("has no target column 'sice'; it has: kind, a, size, b")


def test_dates_in_json_stay_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"date": "2026-01-02", "modified": 1700000000}]')
    frame = read(tmp_path / "rows.json", None).frame
    assert frame.iloc[0].tolist() == ["2026-01-02", 1700000000]


def test_strings_in_json_stay_strings(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"zip": "01234", "big": 9007199254740993}, {"zip": "5", "big": 1}]')
    frame = read(tmp_path / "rows.json", None).frame
    assert frame["zip"].tolist() == ["01234", "5"]
    assert frame["big"].tolist() == [2**53 + 1, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", b"", "is empty"),
        ("rows.csv", b"a,b\n", "has no rows"),
        ("rows.csv", b'a,b\n"1', "cannot be read (ParserError: "),
        ("rows.csv", b"\xff\xfe", "is empty"),
        ("rows.csv", b"a\n\0\x01\x02\xff", "is of no kind that is known here; the kinds are: .csv, "),
        ("rows.json", b"[", "cannot be read ("),
        ("rows.json", b"7", "is JSON, but not of rows: it is 7"),
        ("rows.json", b"[]", "has no rows"),
        ("rows.parquet", b"PAR1", "cannot be read (ArrowInvalid: "),
    ],
)
def test_a_file_that_is_not_a_sample_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(path).startswith(f"sample {path} {message}")


def test_a_missing_sample_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path / "rows.csv")
    assert message == f"sample {tmp_path / 'rows.csv'} cannot be read: No such file or directory"


def test_a_missing_target_is_refused_with_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    assert refusal(path, "c") == f"sample {path} has no target column 'c'; it has: a, b"


def test_a_sample_of_only_the_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")
    assert refusal(tmp_path / "rows.csv", "a").endswith("has no rows")


def test_columns_are_put_in_the_models_order() -> None:
    frame = pd.DataFrame({"b": [1], "a": [2]})
    assert list(fitted_to(frame, ["a", "b"], 2).columns) == ["a", "b"]
    assert list(fitted_to(frame, None, 2).columns) == ["b", "a"]
    assert list(fitted_to(frame, None, None).columns) == ["b", "a"]


def test_spaces_of_the_sample_are_the_underscores_of_a_model_that_renamed_its_columns() -> None:
    frame = pd.DataFrame({"petal length": [1.0], "width": [2.0]})
    assert list(fitted_to(frame, ["width", "petal_length"], 2).columns) == ["width", "petal_length"]
    both = frame.assign(petal_length=3.0)
    with pytest.raises(PackingRefused, match="adds petal length"):
        fitted_to(both, ["width", "petal_length"], 2)


@pytest.mark.parametrize(
    ("columns", "names", "width", "message"),
    [
        (["a"], ["a", "b"], 2, "the sample lacks b; the model takes: a, b"),
        (
            ["a", "b", "y"],
            ["a", "b"],
            2,
            "the sample adds y; the model takes: a, b; name the target with --target, and leave out other columns",
        ),
        (["a", "x"], ["a", "b"], 2, "the sample lacks b and adds x; the model takes: a, b"),
        (["a"], None, 2, "the sample has 1 columns; the model takes 2"),
        (
            ["a", "b", "y"],
            None,
            2,
            "the sample has 3 columns; the model takes 2; name the target with --target, and leave out other columns",
        ),
        (["a", "b", "y", "z"], None, 2, "the sample has 4 columns; the model takes 2"),
        ([], list("abcdefghijklmnopqrstuvwxyz"), 26, "and 6 more; the model takes: a, b, "),
    ],
)
def test_missing_and_additional_columns_are_refused(
    columns: list[str], names: list[str] | None, width: int, message: str
) -> None:
    frame = pd.DataFrame({name: [1] for name in columns})
    with pytest.raises(PackingRefused) as caught:
        fitted_to(frame, names, width)
    assert message in caught.value.detail
