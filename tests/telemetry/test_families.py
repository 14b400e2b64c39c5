"""The numbers of several workers are combined."""

from __future__ import annotations

import re

from app.telemetry.families import FAMILIES, MetricType, key, merged
from app.telemetry.shared_counters import PageContent

NOW_S = 100.0


def content(number: int, pid: int = 1, reported_s: float = 0.0, **values: float) -> PageContent:
    return PageContent(number, pid, reported_s, {key(f"retort_{name}"): (value,) for name, value in values.items()})


def test_counters_include_ended_workers_and_gauges_do_not() -> None:
    contents = [content(number, pid, answers=10.0, queue_requests=3.0) for number, pid in ((1, 11), (2, 0), (3, 13))]
    samples = merged(contents, NOW_S)
    assert samples["retort_answers"] == {(): (30.0,)}
    assert samples["retort_queue_requests"] == {(): (6.0,)}
    assert samples["retort_workers"] == {(): (2.0,)}


def test_the_longest_age_is_shown() -> None:
    contents = [content(number, queue_age_seconds=age_s) for number, age_s in ((1, 0.5), (2, 2.0), (3, 1.0))]
    assert merged(contents, NOW_S)["retort_queue_age_seconds"] == {(): (2.0,)}


def test_metrics_of_each_worker_have_a_label() -> None:
    contents = [content(number, loop_turn_max_seconds=number / 10) for number in (2, 1)]
    assert merged(contents, NOW_S)["retort_loop_turn_max_seconds"] == {("1",): (0.1,), ("2",): (0.2,)}


def test_only_workers_that_report_have_the_age_of_a_report() -> None:
    contents = [
        content(1, reported_s=98.5),
        content(2),
        content(3, pid=0, reported_s=1.0),
        content(4, reported_s=101.0),
    ]
    assert merged(contents, NOW_S)["retort_worker_report_age_seconds"] == {("1",): (1.5,), ("4",): (0.0,)}


def test_buckets_are_added_up_one_by_one() -> None:
    name = key("retort_prediction_duration_seconds", "penguins", "1")
    contents = [PageContent(number, 1, 0.0, {name: (1.0, 2.0, 0.5)}) for number in (1, 2)]
    assert merged(contents, NOW_S)["retort_prediction_duration_seconds"] == {("penguins", "1"): (2.0, 4.0, 1.0)}


def test_names_follow_the_rules_of_prometheus() -> None:
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"retort(_[a-z]+)+", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_ms"))
        assert family.help.endswith(".")
        assert (family.kind is MetricType.HISTOGRAM) == bool(family.bounds)
        assert list(family.bounds) == sorted(set(family.bounds))
        assert not family.bounds or name.endswith(("_seconds", "_rows", "_requests"))
