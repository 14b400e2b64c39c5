"""Rows in JSON, in any orientation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from app.packing.sample.expected import NOTHING, Expected
from tests.packing.sample.kinds import HOUSES, ROWS, read_content, refusal, rows_of

FRAME = pd.DataFrame(ROWS).assign(weight=[1.25, 2.5, "?"], kind=["a", "b", "a"])
RECORDS = json.loads(FRAME.to_json(orient="records"))


@pytest.mark.parametrize("orientation", ["records", "split", "index", "columns", "values", "table"])
@pytest.mark.parametrize("index", [None, ["x", "y", "z"]], ids=["numbered", "named"])
def test_each_orientation_of_pandas_is_read(tmp_path: Path, orientation: Any, index: list[str] | None) -> None:
    frame = FRAME if index is None else FRAME.set_axis(index)
    sample = read_content(tmp_path, "rows.json", frame.to_json(orient=orientation))
    assert rows_of(sample) == ROWS
    assert sample.notes[0] == f"sample: 3 rows of JSON, orientation {orientation}"
    assert sample.notes[1] == "sample column 'weight': '?' taken for missing, in 1 row"


@pytest.mark.parametrize("orientation", ["index", "columns"])
def test_rows_and_columns_are_distinguished_by_numbers(tmp_path: Path, orientation: Any) -> None:
    sample = read_content(tmp_path, "rows.json", FRAME.to_json(orient=orientation), NOTHING)
    assert list(sample.frame.columns) == list(ROWS)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.json", "rows"])
def test_a_record_in_each_line_is_read(tmp_path: Path, name: str) -> None:
    sample = read_content(tmp_path, name, FRAME.to_json(orient="records", lines=True))
    assert rows_of(sample) == ROWS
    assert sample.notes[0] == "sample: 3 rows of JSON lines"


@pytest.mark.parametrize(
    "document",
    [
        {"instances": RECORDS},
        {"dataframe_records": RECORDS},
        {"dataframe_split": json.loads(FRAME.to_json(orient="split"))},
        {name: [record[name] for record in RECORDS] for name in RECORDS[0]},
        [list(RECORDS[0]), *(list(record.values()) for record in RECORDS)],
    ],
)
def test_request_bodies_of_servers_are_read(tmp_path: Path, document: object) -> None:
    assert rows_of(read_content(tmp_path, "rows.json", json.dumps(document))) == ROWS


def test_one_record_is_read(tmp_path: Path) -> None:
    assert read_content(tmp_path, "rows.json", json.dumps(RECORDS[0])).frame.shape == (1, 4)


def test_times_of_a_table_are_times(tmp_path: Path) -> None:
    times = pd.to_datetime(["2026-01-02T03:04:05.678", "2026-01-03"], format="ISO8601")
    frame = pd.DataFrame({"naive": times, "zoned": times.tz_localize("Europe/Berlin"), "kind": [1, 2]})
    sample = read_content(tmp_path, "rows.json", frame.to_json(orient="table"), NOTHING)
    assert sample.frame["naive"].tolist() == frame["naive"].tolist()
    assert sample.frame["zoned"].tolist() == frame["zoned"].tolist()


def test_nan_in_json_is_missing(tmp_path: Path) -> None:
    sample = read_content(tmp_path, "rows.json", '[{"a": NaN, "kind": 1}, {"a": 1.5, "kind": 2}]', NOTHING)
    assert rows_of(sample) == {"a": [None, 1.5]}


def test_rows_of_values_without_names_are_numbered(tmp_path: Path) -> None:
    sample = read_content(tmp_path, "rows.json", "[[1, 2, 0], [3, 4, 1]]", Expected(width=2))
    assert rows_of(sample) == {"feature1": [1, 3], "feature2": [2, 4]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": {"b": 1}, "c": [1]}', "is JSON, but not of rows: its keys are a, c"),
        ('[{"a": 1}, [2]]', "is JSON, but some of its rows are records and some are not"),
        ('{"a": 1}\n{"a": ', "cannot be read ("),
    ],
)
def test_json_without_rows_is_refused(tmp_path: Path, content: str, message: str) -> None:
    assert refusal(tmp_path, "rows.json", content).startswith(message)


def test_numbers_of_a_typed_file_become_the_learned_codes(tmp_path: Path) -> None:
    records = [record | {"zip": int(record["zip"])} for record in RECORDS]
    sample = read_content(tmp_path, "rows.json", json.dumps(records), HOUSES)
    assert rows_of(sample) == ROWS
    assert any("which the model has learned" in note for note in sample.notes)


def test_numbers_in_texts_are_numbers_if_the_model_has_learned_numbers(tmp_path: Path) -> None:
    records = [record | {"price": None if record["price"] is None else str(record["price"])} for record in RECORDS]
    sample = read_content(tmp_path, "rows.json", json.dumps(records), HOUSES)
    assert rows_of(sample) == ROWS
    assert any("its texts are read as numbers" in note for note in sample.notes)
    unknown = read_content(tmp_path, "rows.json", '[{"a": "1.5", "kind": 1}, {"a": "?", "kind": 1}]', NOTHING)
    assert rows_of(unknown) == {"a": ["1.5", "?"]}
    assert unknown.notes[1] == "sample column 'a' read as text: its values are numbers, but texts in the file"


def test_a_word_among_numbers_is_noted(tmp_path: Path) -> None:
    sample = read_content(tmp_path, "rows.json", '{"a": [1, 2, "x"], "kind": [1, 2, 3]}', NOTHING)
    assert sample.notes[1] == "sample column 'a' read as text: its values are numbers, but 'x' is not"
