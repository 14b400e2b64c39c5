"""The results of one run as plain JSON, written by `run` and read by `report`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from benchmarks.cases import BY_THEMSELVES, CASES, OURS, Bar
from benchmarks.spread import Spread, difference, ratio


class Side(TypedDict, total=False):
    """One server in one case: its rounds, or the reason for having none; `differing` predictions of `asked`."""

    rounds: list[dict[str, float]]
    failure: str
    differing: int
    asked: int


class Figures(TypedDict, total=False):
    """All results. `cases`, `memory` and `start` are by name of case or model, then by side."""

    machine: dict[str, Any]
    run: dict[str, Any]
    versions: dict[str, dict[str, str]]
    cases: dict[str, dict[str, Side]]
    memory: dict[str, dict[str, Any]]
    start: dict[str, dict[str, Any]]
    timings: dict[str, dict[str, float]]


def series(side: Side | None, metric: str) -> list[float]:
    """Return this metric of each round; empty if the side was not measured."""
    return [] if side is None else [one[metric] for one in side.get("rounds", [])]


def of_bar(figures: Figures, bar: Bar) -> Spread | str:
    """Return the result for a bar, or the reason for having none."""
    if bar.case == "memory":
        by_workers = figures.get("memory", {}).get(bar.metric, {})
        if "failure" in by_workers or bar.of not in by_workers:
            return str(by_workers.get("failure", "not measured in this run"))
        return ratio([by_workers[bar.of]], [by_workers[bar.to]])
    sides: Mapping[str, Any]
    if bar.case == "start":
        sides = figures.get("start", {})
        of, to = (sides.get(name, {}).get("seconds", []) for name in (bar.of, bar.to))
    else:
        sides = figures.get("cases", {}).get(bar.case, {})
        of, to = (series(sides.get(name), bar.metric) for name in (bar.of, bar.to))
    if of and to:
        return difference(of, to) if bar.is_difference else ratio(of, to)
    failures = [sides[name]["failure"] for name in (bar.of, bar.to) if sides.get(name, {}).get("failure")]
    return failures[0] if failures else "not measured in this run"


def our_failures(figures: Figures) -> list[str]:
    """Return the failures of Retort's own server: it did not start, or answered wrongly."""
    failures = [
        f"{case.title}: {side['failure']}"
        for case in (*CASES, *BY_THEMSELVES)
        if (side := figures.get("cases", {}).get(case.name, {}).get(OURS)) and "failure" in side
    ]
    others = {"memory": figures.get("memory", {}), "start": figures.get("start", {})}
    failures += [
        f"{part}: {sides[OURS]['failure']}" for part, sides in others.items() if "failure" in sides.get(OURS, {})
    ]
    return failures
