"""Tests of the cases: the request to each side, reading and comparing its answers, and the bars."""

from __future__ import annotations

import json

import pytest

from benchmarks import cases, run
from benchmarks.cases import FLASK, MLSERVER, OURS, OURS_ALL, TUTORIAL, Bar, differing
from benchmarks.servers import web_line
from benchmarks.venvs import reason, requirements_of

PENGUIN = {"island": "Biscoe", "bill_depth_mm": None}


@pytest.mark.parametrize(
    ("side", "model", "rows", "document"),
    [
        (OURS, "linear", [[5.1, 3.5]], {"feature1": 5.1, "feature2": 3.5}),
        (TUTORIAL, "linear", [[5.1, 3.5]], {"feature1": 5.1, "feature2": 3.5}),
        (OURS, "penguins", [PENGUIN], PENGUIN),
        (OURS, "digits", [[0.0, 5.0]], {"instances": [[0.0, 5.0]]}),
        (FLASK, "digits", [[0.0, 5.0]], {"pixels": [0.0, 5.0]}),
        (OURS, "table", [[1.0], [2.0]], {"instances": [[1.0], [2.0]], "outputs": ["prediction"]}),
        (OURS_ALL, "table", [[1.0], [2.0]], {"instances": [[1.0], [2.0]]}),
        (TUTORIAL, "table", [[1.0], [2.0]], {"instances": [[1.0], [2.0]]}),
        (
            MLSERVER,
            "table",
            [[1.0, 3.0], [2.0, 4.0]],
            {"inputs": [{"name": "predict", "shape": [2, 2], "datatype": "FP64", "data": [1.0, 3.0, 2.0, 4.0]}]},
        ),
    ],
)
def test_the_request_to_each_side(side: str, model: str, rows: list[object], document: object) -> None:
    assert json.loads(cases.body(side, model, rows)) == document


def test_mlserver_is_asked_for_penguins_by_columns() -> None:
    document = json.loads(cases.body(MLSERVER, "penguins", [PENGUIN]))
    assert [(tensor["name"], tensor["datatype"], tensor["data"]) for tensor in document["inputs"]] == [
        ("island", "BYTES", ["Biscoe"]),
        ("bill_depth_mm", "FP64", [None]),
    ]


def test_predictions_are_found_in_each_answer() -> None:
    assert cases.predictions(OURS, {"prediction": ["Adelie"], "model": "penguins"}) == ["Adelie"]
    assert cases.predictions(MLSERVER, {"outputs": [{"data": [1, 0]}]}) == [1, 0]


@pytest.mark.parametrize(
    ("answered", "expected", "wrong"),
    [
        ([1, 0], [1, 0], 0),
        ([1, 1], [1, 0], 1),
        (["Adelie"], ["Gentoo"], 1),
        ([0.1 + 0.2], [0.3], 0),
        ([0.3001], [0.3], 1),
        ([None], [0.3], 1),
        ([], [1, 0], 2),
    ],
)
def test_predictions_that_are_not_the_notebooks_are_counted(
    answered: list[object], expected: list[object], wrong: int
) -> None:
    assert differing(answered, expected) == wrong


def test_a_bar_is_lower_while_gunicorns_own_worker_serves() -> None:
    bar = Bar("", "linear", TUTORIAL, OURS, "cpu_us", 3, gthread=1.7)
    assert bar.met(2, "gthread")
    assert not bar.met(2, "app.server.RetortWorker")


def test_a_bar_may_be_an_upper_limit() -> None:
    bar = Bar("", "memory", "4", "1", OURS, 1.25, at_least=False)
    assert bar.met(1.25, "gthread")
    assert not bar.met(1.26, "gthread")


def test_every_bar_is_of_a_part_that_is_run() -> None:
    assert {bar.case for bar in cases.BARS} <= set(run.PARTS)


def test_models_are_prepared_once_and_only_where_needed() -> None:
    assert run.models_of(["linear", "batching", "lone"]) == ["linear", "knn"]


def test_every_peer_has_pinned_requirements() -> None:
    for peer in cases.PEERS:
        lines = requirements_of(peer).read_text().splitlines()
        assert lines
        assert all("==" in line for line in lines), peer


def test_our_command_is_that_of_the_procfile() -> None:
    assert web_line("worker: x\nweb: gunicorn --config python:app.gunicorn_conf wsgi:app\n")[0] == "gunicorn"


def test_why_pip_failed_is_its_first_error() -> None:
    output = "WARNING: x\nERROR: No matching distribution found for mlserver==9\nERROR: y\n"
    assert reason(output) == "No matching distribution found for mlserver==9"
