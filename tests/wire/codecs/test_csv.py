"""Tests of CSV: RFC 4180, declared or detected headers, cells typed by the signature, places of errors."""

from __future__ import annotations

import csv
import io
import time
from typing import Any

import numpy as np
import pytest

from app.core.answer import Answer, columns_of
from app.wire.codecs.csv import MAX_LINE_CHARS
from tests.wire.codecs.conftest import Sends

EXPECTED = [0, 2]


@pytest.mark.parametrize(
    ("media_type", "text"),
    [
        ("text/csv", "feature1,feature2\r\n5.1,3.5\r\n6.2,3.4\r\n"),
        ("text/csv", "feature2,feature1\n3.5,5.1\n3.4,6.2"),
        ("text/csv", "5.1,3.5\n6.2,3.4\n"),
        ("text/csv;header=absent", "5.1,3.5\n6.2,3.4\n"),
        ("text/csv; header=present; charset=utf-8", '"feature1","feature2"\n"5.1",3.5\n\n6.2,"3.4"\n'),
        ("TEXT/CSV; Header=Present", "\ufefffeature1,feature2\n 5.1 , 3.5\n+6.2,34e-1\n"),
        ("application/csv", "feature1,feature2\r5.1,3.5\r6.2,3.4\r"),
    ],
)
def test_rows_with_and_without_a_header(ask: Sends, media_type: str, text: str) -> None:
    answer = ask(media_type, text.encode())
    assert answer.status == 200, answer.content
    assert answer.document["prediction"] == EXPECTED


def test_an_empty_csv_has_no_instances(ask: Sends) -> None:
    for text in (b"", b"\n\n", b"feature1,feature2\n"):
        assert ask("text/csv", text).document["prediction"] == []


@pytest.mark.parametrize(
    ("cell", "detail"),
    [
        ("x", "must be a number, not a string"),
        ("1_000", "must be a number, not a string"),
        ("0x10", "must be a number, not a string"),
        ("\u0661", "must be a number, not a string"),
        ("true", "must be a number, not a string"),
        ("", "must not be missing (null or NaN): the model has no way to fill it in"),
        (" ", "must not be missing (null or NaN): the model has no way to fill it in"),
        ("NaN", "must not be missing (null or NaN): the model has no way to fill it in"),
        ("inf", "must be a finite number"),
        ("1e999", "must be a finite number"),
        ("9" * 5000, "must fit in 64 bits as an integer"),
    ],
)
def test_a_cell_that_is_not_a_number(ask: Sends, cell: str, detail: str) -> None:
    answer = ask("text/csv", f"feature1,feature2\n5.1,3.5\n5.1,{cell}\n".encode())
    assert answer.status == 422
    (error,) = answer.document["errors"]
    assert error["pointer"] == "#/instances/1/feature2"
    assert error["detail"].startswith(detail)


def test_without_a_header_the_place_is_the_column_number(ask: Sends) -> None:
    answer = ask("text/csv", b"5.1,3.5\n5.1,x\n5.1\n")
    assert [error["pointer"] for error in answer.document["errors"]] == ["#/instances/1/1", "#/instances/2"]


@pytest.mark.parametrize(
    ("media_type", "content", "says"),
    [
        ("text/csv", b'feature1,feature2\n5.1,"3.5\n', "never closed (the row that begins on line 2)"),
        ("text/csv", b'feature1,feature2\n5.1,3.5\n"5"1,3.5\n', "after a closing quote"),
        ("text/csv", b"feature1,feature2\n5.1,3\0.5\n", "a NUL byte (line 2)"),
        ("text/csv", b"feature1,feature2\n5.1,\xff\n", "not UTF-8 (line 2)"),
        ("text/csv", "feature1,feature2\n5.1,3.5\n".encode("utf-16"), "line 1"),
        ("text/csv; header=perhaps", b"5.1,3.5\n", "must be present or absent"),
        ("text/csv", b"feature1;feature2\n5.1;3.5\n", "separated by semicolons; they must be by commas"),
        ("text/csv; header=absent", b"5.1\t3.5\n", "separated by tabs"),
    ],
)
@pytest.mark.fault("B09")
def test_invalid_csv(ask: Sends, media_type: str, content: bytes, says: str) -> None:
    answer = ask(media_type, content)
    assert answer.status == 400
    assert answer.document["type"] == "/problems/invalid-body"
    assert says in answer.document["detail"]


@pytest.mark.fault("B09")
def test_ragged_rows_are_named(ask: Sends) -> None:
    answer = ask("text/csv", b"feature1,feature2\n5.1\n5.1,3.5\n5.1,3.5,1\n")
    assert answer.status == 422
    assert [error["pointer"] for error in answer.document["errors"]] == ["#/instances/0", "#/instances/2"]


@pytest.mark.fault("B09")
def test_a_header_of_other_names_or_of_one_name_twice(ask: Sends) -> None:
    unknown = ask("text/csv; header=present", b"feature1,height\n5.1,3.5\n")
    assert {error["pointer"] for error in unknown.document["errors"]} == {
        "#/instances/0/height",
        "#/instances/0/feature2",
    }
    more = ask("text/csv", b",feature2,feature1,species\n0,3.5,5.1,setosa\n")  # as pandas writes a whole frame
    assert {error["pointer"] for error in more.document["errors"]} == {"#/instances/0/", "#/instances/0/species"}
    twice = ask("text/csv; header=present", b"feature1,feature1\n5.1,3.5\n")
    assert twice.document["errors"] == [
        {"pointer": "#/instances", "detail": "has more than one column named 'feature1'"}
    ]


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"," * 2_000_000, b"\n," * 1_000_000, b"feature1" + b",x" * 500_000 + b"\n1,2\n"])
@pytest.mark.fault("B09")
def test_huge_numbers_of_cells_are_refused_soon(ask: Sends, content: bytes) -> None:
    before_s = time.process_time()
    assert sum(map(len, csv.reader(io.StringIO(content.decode())))) > 0
    read_s = time.process_time() - before_s
    for media_type in ("text/csv", "text/csv; header=present"):
        before_s = time.process_time()
        assert ask(media_type, content).status in {413, 422}
        assert time.process_time() - before_s < 20 * read_s


@pytest.mark.fault("B09")
def test_too_many_rows(ask: Sends) -> None:
    for media_type in ("text/csv; header=absent", "text/csv; header=present"):
        answer = ask(media_type, b"feature1,feature2\n" + b"1,2\n" * 100_001)
        assert answer.status == 413
        assert answer.document["type"] == "/problems/too-many-instances"
        rows = 100_001 + ("absent" in media_type)
        assert f"{rows} instances" in answer.document["detail"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"5.1," + b"x" * MAX_LINE_CHARS, "a line is longer than 8388608 characters"),
        pytest.param(
            b'5.1,"' + (b"x" * 99 + b"\n") * (MAX_LINE_CHARS // 100 + 1) + b'"\n',
            "a cell has more than 8388608 characters",
        ),
        (b"5.1,3.5\n" * 1000 + b"5.1,\xff\n" + b"5.1,3.5\n" * 2_000, "not UTF-8 (line 1001)"),
    ],
)
def test_too_long_cells_and_errors_in_late_lines_are_named(ask: Sends, content: bytes, says: str) -> None:
    answer = ask("text/csv; header=absent", content)
    assert answer.status == 400
    assert says in answer.document["detail"]


def test_a_long_text_in_a_cell_is_read(ask: Sends) -> None:
    answer = ask("text/csv", b"feature1,feature2\n5.1," + b"x" * 200_000 + b"\n")
    assert answer.status == 422
    assert answer.document["errors"][0]["pointer"] == "#/instances/0/feature2"


def answered(outputs: dict[str, Any], classes: list[Any] | None) -> list[str]:
    return list(columns_of(Answer(outputs, classes, "model", 1)))


def test_an_answer_has_the_same_columns_whatever_its_rows() -> None:
    names = ["prediction", "probability_a", "probability_b"]
    assert answered({"prediction": np.empty(0), "probabilities": np.empty(0)}, ["a", "b"]) == names
    rows = np.array([[0.25, 0.75]])
    assert answered({"prediction": np.array(["b"]), "probabilities": rows}, ["a", "b"]) == names
    left_by_a_step = np.empty(1, dtype=object)
    left_by_a_step[:] = rows.tolist()
    assert answered({"prediction": np.array(["b"]), "probabilities": left_by_a_step}, ["a", "b"]) == names
    of_targets = ["probability_0_a", "probability_0_b", "probability_1_1", "probability_1_2", "probability_1_3"]
    classes = [["a", "b"], [1, 2, 3]]
    assert answered({"probabilities": np.empty(0)}, classes) == of_targets
    left_by_a_step[:] = [[[0.25, 0.75], [0.5, 0.25, 0.25]]]
    assert answered({"probabilities": left_by_a_step}, classes) == of_targets
