"""Runs, loads and proofs are counted; recorded examples are no requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.runtime.batching import BatchingServable, JoiningServable
from app.runtime.policy import State
from app.runtime.quarantine import CountingServable
from app.signature.batch import Batch
from app.storage.repository import Repository
from app.telemetry.metrics import SharedMetrics
from tests.runtime.estimators import add, version_loader

FLOWERS = ("flowers", "1")


class FakeModel:
    """Answer the label of each row."""

    def __init__(self, labels: Sequence[object] = ()) -> None:
        self.labels = labels

    def run(self, batch: Batch, outputs: Sequence[str]) -> Mapping[str, Any]:
        if "prediction" not in outputs:
            return {name: np.zeros(batch.rows) for name in outputs}
        return {"prediction": np.array([self.labels[int(row)] for row in batch.columns["x"]])}


def batch(*rows: int) -> Batch:
    return Batch({"x": np.array(rows)}, len(rows))


def counted(metrics: SharedMetrics, family: str) -> dict[tuple[str, ...], float]:
    return {labels: values[0] for labels, values in metrics.samples()[family].items()}


def test_a_run_is_counted_with_its_rows_and_its_classes() -> None:
    metrics = SharedMetrics()
    servable = CountingServable(FakeModel(["no", "yes", "maybe"]), "flowers", 1, ("no", "yes"), metrics)
    for rows in ((0, 1, 1), (2,), (1,) * 100):
        servable.run(batch(*rows), ["prediction"])
    servable.run(batch(1), ["probabilities"])  # without the label
    assert counted(metrics, "retort_predicted_classes") == {
        (*FLOWERS, "no"): 1.0,
        (*FLOWERS, "other"): 1.0,
        (*FLOWERS, "yes"): 102.0,
    }
    *rows_buckets, rows = metrics.samples()["retort_run_rows"][FLOWERS]
    *_, requests = metrics.samples()["retort_run_requests"][FLOWERS]
    assert (sum(rows_buckets), rows, requests) == (4.0, 105.0, 4.0)


def test_rows_of_several_labels_are_of_no_class() -> None:
    metrics = SharedMetrics()
    servable = CountingServable(FakeModel([[0, 1], [1, 1]]), "flowers", 1, (0, 1), metrics)
    assert servable.run(batch(0, 1), ["prediction"])["prediction"].tolist() == [[0, 1], [1, 1]]
    assert counted(metrics, "retort_predicted_classes") == {}


def test_a_run_that_cannot_be_counted_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SharedMetrics):
        def ran(self, *_: object, **__: object) -> None:
            raise TypeError("unhashable")

    servable = CountingServable(FakeModel(["no", "yes"]), "flowers", 1, ("no", "yes"), Broken())
    assert servable.run(batch(1), ["prediction"])["prediction"].tolist() == ["yes"]
    assert "was not counted" in caplog.text


@pytest.mark.parametrize("classes", [None, (["a", "b"], ["c"])])
def test_only_models_with_one_label_have_classes(classes: Any) -> None:
    metrics = SharedMetrics()
    CountingServable(FakeModel([1.0]), "flowers", 1, classes, metrics).run(batch(0), ["prediction"])
    assert counted(metrics, "retort_predicted_classes") == {}
    assert metrics.samples()["retort_run_rows"] != {}


def test_recorded_examples_and_failed_runs_are_not_counted() -> None:
    metrics = SharedMetrics()
    servable = CountingServable(FakeModel(["no"]), "flowers", 1, ("no",), metrics)
    servable.run(Batch.joined([batch(0), batch(0)], requests=0), ["prediction"])
    with pytest.raises(IndexError):
        servable.run(batch(7), ["prediction"])
    assert metrics.samples()["retort_run_rows"] == {}
    assert counted(metrics, "retort_predicted_classes") == {}


@pytest.mark.parametrize("kind", [JoiningServable, BatchingServable])
def test_requests_that_share_a_run_are_counted(kind: Any) -> None:
    metrics = SharedMetrics()
    counting = CountingServable(FakeModel(["no"]), "flowers", 1, ("no",), metrics)
    servable = JoiningServable(counting, 10) if kind is JoiningServable else BatchingServable(counting, 10, 1.0)
    servable.run_each([(batch(0), ("prediction",)), (batch(0, 0), ("prediction",))])
    assert metrics.samples()["retort_run_requests"][FLOWERS][-1] == 2.0
    assert metrics.samples()["retort_run_rows"][FLOWERS][-1] == 3.0


def test_loads_and_proofs_are_counted(tmp_path: Path) -> None:
    metrics, repository = SharedMetrics(), Repository(tmp_path)
    for word in (b"doubles", b"triples", b"nonsense"):
        add(repository, content=word)
    loader = version_loader(repository, metrics=metrics)
    states = [loader.tried("flowers", version).state for version in (1, 2, 3)]
    assert states == [State.AVAILABLE, State.FAILED, State.FAILED]
    assert counted(metrics, "retort_model_loads") == {
        ("flowers", "1", "succeeded"): 1.0,
        ("flowers", "2", "succeeded"): 1.0,
        ("flowers", "3", "failed"): 1.0,
    }
    assert counted(metrics, "retort_model_proofs") == {
        ("flowers", "1", "passed"): 1.0,
        ("flowers", "2", "failed"): 1.0,
    }
    assert sum(metrics.samples()["retort_model_load_duration_seconds"][FLOWERS][:-1]) == 1.0
