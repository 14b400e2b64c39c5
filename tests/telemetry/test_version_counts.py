"""The counts of one version have a bounded number of labels."""

from __future__ import annotations

from bisect import bisect_left

import pytest

from app.telemetry.families import FAMILIES, SEPARATOR
from app.telemetry.metrics import MOST_RESPONSE_KINDS, SharedMetrics
from app.telemetry.version_counts import FEW_ROWS, MOST_CLASS_CHARS, MOST_CLASSES, MOST_OUTCOMES, OK

PENGUINS = ("penguins", "1")


def test_each_stage_of_a_request_has_a_histogram() -> None:
    metrics = SharedMetrics()
    metrics.predicted("penguins", 1, OK, 1, 0.005, {"parse": 0.05, "run": 5.0})
    metrics.predicted("penguins", 1, OK, 1, 0.005, {"parse": 0.05, "run": 5.0, "finish": 1.0})
    metrics.predicted("penguins", 1, "model-failed", 1, 0.005, {"parse": 0.05, "run": 5.0})
    found = metrics.samples()["retort_stage_duration_seconds"]
    assert {labels[2]: (sum(buckets), round(total_s, 6)) for labels, (*buckets, total_s) in found.items()} == {
        "finish": (1.0, 0.001),
        "parse": (2.0, 0.0001),
        "run": (2.0, 0.01),
    }
    bounds = FAMILIES["retort_stage_duration_seconds"].bounds
    assert found[*PENGUINS, "run"][bounds.index(0.01)] == 2.0


@pytest.mark.fault("X09")
def test_outcomes_beyond_a_limit_are_counted_together() -> None:
    metrics = SharedMetrics()
    for number in range(MOST_OUTCOMES + 10):
        metrics.predicted("penguins", 1, f"problem-{number}", 1, 0.1, {})
    found = metrics.samples()["retort_predictions"]
    assert len(found) == MOST_OUTCOMES + 1
    assert found[*PENGUINS, "other"] == (10.0,)


def test_responses_are_counted_by_status_and_problem() -> None:
    metrics = SharedMetrics()
    for status, outcome in ((200, OK), (200, OK), (422, "invalid-instances"), (404, OK)):
        metrics.responded(status, outcome)
    assert metrics.samples()["retort_responses"] == {
        ("200", "none"): (2.0,),
        ("404", "none"): (1.0,),
        ("422", "invalid-instances"): (1.0,),
    }
    for number in range(2 * MOST_RESPONSE_KINDS):
        metrics.responded(400, f"problem-{number}")
    assert len(metrics.samples()["retort_responses"]) == MOST_RESPONSE_KINDS + 1


@pytest.mark.fault("X09")
def test_classes_beyond_a_limit_are_counted_together() -> None:
    metrics, classes = SharedMetrics(), tuple(range(MOST_CLASSES + 5))
    metrics.ran("penguins", 1, 1, 1, classes, [*classes, "unknown", None])
    metrics.ran("penguins", 1, 1, 1, classes, [classes[0]])
    found = metrics.samples()["retort_predicted_classes"]
    assert len(found) == MOST_CLASSES + 1
    assert found[*PENGUINS, "other"] == (7.0,)
    assert found[*PENGUINS, "0"] == (2.0,)


def test_many_rows_give_the_same_counts_as_single_ones() -> None:
    metrics, labels = SharedMetrics(), ["a", "b", "b"] * FEW_ROWS
    metrics.ran("penguins", 1, 1, 1, ("a", "b"), labels)
    for label in labels:
        metrics.ran("penguins", 2, 1, 1, ("a", "b"), [label])
    found = metrics.samples()["retort_predicted_classes"]
    assert found[*PENGUINS, "b"] == found["penguins", "2", "b"] == (2.0 * FEW_ROWS,)


def test_the_classes_of_a_version_may_change_when_it_is_loaded_again() -> None:
    metrics = SharedMetrics()
    metrics.ran("penguins", 1, 1, 1, ("a",), ["a"])
    metrics.ran("penguins", 1, 1, 1, ("b",), ["a", "b"])
    found = metrics.samples()["retort_predicted_classes"]
    assert {labels[2]: value for labels, (value,) in found.items()} == {"a": 1.0, "b": 1.0, "other": 1.0}


def test_any_text_may_be_a_class() -> None:
    metrics, odd = SharedMetrics(), (f"a{SEPARATOR}b", chr(0xD800), "x" * 1000, 'quote"\n\\')
    metrics.ran("penguins", 1, 1, 1, odd, odd)
    labels = [labels[2] for labels in metrics.samples()["retort_predicted_classes"]]
    assert sorted(labels) == sorted(["a b", "?", "x" * MOST_CLASS_CHARS, 'quote"\n\\'])


def test_counts_before_the_fork_are_kept() -> None:
    metrics = SharedMetrics()
    metrics.loaded("penguins", 1, True, 0.2)
    metrics.loaded("penguins", 1, False, 0.2)
    metrics.share(2)
    samples = metrics.samples()
    assert samples["retort_model_loads"] == {(*PENGUINS, "failed"): (1.0,), (*PENGUINS, "succeeded"): (1.0,)}
    assert sum(samples["retort_model_load_duration_seconds"][PENGUINS][:-1]) == 2.0


def test_the_cpu_time_of_a_worker_is_shown() -> None:
    assert SharedMetrics().samples()["retort_worker_cpu_seconds"]["0",][0] > 0.0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 64, 65, 128, 129, 65_536, 65_537, 10**6])
def test_the_size_of_a_run_is_in_the_first_bucket_that_holds_it(size: int) -> None:
    metrics = SharedMetrics()
    metrics.ran("penguins", 1, size, size, (), ())
    for family in ("retort_run_rows", "retort_run_requests"):
        *buckets, total = metrics.samples()[family][PENGUINS]
        assert total == size
        assert buckets.index(1.0) == bisect_left(FAMILIES[family].bounds, size)
