"""The counts of one version on a page: its predictions, its runs and the classes that it predicted.

No method takes a lock (see `WorkerPage`). Each object belongs to one page, and is made at its first use.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence

from app.telemetry.families import FAMILIES, REQUEST_BOUNDS, ROW_BOUNDS, SEPARATOR, key
from app.telemetry.shared_counters import WorkerPage

OK = "ok"
OTHER = "other"
"""The common label of all outcomes or classes beyond their limit."""
MOST_OUTCOMES = 64
MOST_CLASSES = 50
MOST_CLASS_CHARS = 64
FEW_ROWS = 16
"""Up to this number, predicted labels are counted one by one, which is faster for so few."""
RUNS, RUNNING = "retort_artifact_runs", "retort_artifact_runs_running"


class Histogram:
    """The buckets and the sum of one histogram."""

    __slots__ = ("_bounds", "_cells", "first", "sum")

    def __init__(self, page: WorkerPage, family: str, *labels: str) -> None:
        self._bounds = FAMILIES[family].bounds
        self._cells = page.cells
        self.first = page.place(key(family, *labels), len(self._bounds) + 2)
        self.sum = self.first + len(self._bounds) + 1

    def observe(self, value: float) -> None:
        """Count one value."""
        cells = self._cells
        bucket = self.first + bisect_left(self._bounds, value)
        cells[bucket] += 1.0
        cells[self.sum] += value


class PredictionCounts:
    """Requests for one version by outcome, with the rows and durations of the successful ones."""

    def __init__(self, page: WorkerPage, model: str, version: int) -> None:
        self._page, self._cells = page, page.cells
        self._labels = (model, str(version))
        self._duration = Histogram(page, "retort_prediction_duration_seconds", *self._labels)
        self._rows = page.place(key("retort_prediction_rows", *self._labels))
        self._outcomes: dict[str, int] = {}
        self._stage_bounds_s = FAMILIES["retort_stage_duration_seconds"].bounds
        self._stages: dict[str, tuple[int, int]] = {}
        """The first bucket and the sum of each stage."""

    def count(self, status: str, rows: int, duration_s: float, stages_ms: Mapping[str, float]) -> None:
        """Count one request; for status `ok` also its rows and durations."""
        cells = self._cells
        place = self._outcomes.get(status) or self._outcome(status)
        cells[place] += 1.0
        if status == OK:
            self._duration.observe(duration_s)
            cells[self._rows] += rows
            stages, bounds_s = self._stages, self._stage_bounds_s
            least_s = bounds_s[0]
            for stage, ms in stages_ms.items():
                bucket, total = stages.get(stage) or self._stage(stage)
                took_s = ms * 1e-3
                if took_s > least_s:  # most stages take microseconds
                    bucket += bisect_left(bounds_s, took_s)
                cells[bucket] += 1.0
                cells[total] += took_s

    def _outcome(self, status: str) -> int:
        if len(self._outcomes) >= MOST_OUTCOMES:
            return self._page.place(key("retort_predictions", *self._labels, OTHER))
        return self._outcomes.setdefault(status, self._page.place(key("retort_predictions", *self._labels, status)))

    def _stage(self, stage: str) -> tuple[int, int]:
        histogram = Histogram(self._page, "retort_stage_duration_seconds", *self._labels, stage)
        return self._stages.setdefault(stage, (histogram.first, histogram.sum))


def artifact_runs(page: WorkerPage, model: str, version: int) -> tuple[int, int]:
    """Return the cells of the runs of an artifact that are under way, and of all that began."""
    return page.place(key(RUNNING, model, str(version))), page.place(key(RUNS, model, str(version)))


class RunCounts:
    """Sizes of the runs of one version, and the classes that they predicted."""

    def __init__(self, page: WorkerPage, model: str, version: int) -> None:
        self._page, self._cells = page, page.cells
        self._labels = (model, str(version))
        self._rows = Histogram(page, "retort_run_rows", *self._labels)
        self._requests = Histogram(page, "retort_run_requests", *self._labels)
        self._classes: Sequence[object] = ()
        self._places: dict[object, int] = {}

    def count(self, rows: int, requests: int, classes: Sequence[object], predicted: Sequence[object]) -> None:
        """Count one run and its predicted labels. Classes beyond the first `MOST_CLASSES` are counted together."""
        cells = self._cells
        bucket = self._rows.first + min((rows - 1).bit_length(), len(ROW_BOUNDS))
        cells[bucket] += 1.0
        cells[self._rows.sum] += rows
        bucket = self._requests.first + min((requests - 1).bit_length(), len(REQUEST_BOUNDS))
        cells[bucket] += 1.0
        cells[self._requests.sum] += requests
        if not predicted:
            return
        if classes is not self._classes:
            self._set_classes(classes)
        places = self._places
        if len(predicted) <= FEW_ROWS:
            for label in predicted:
                place = places.get(label) or self._other()
                cells[place] += 1.0
            return
        for label, times in Counter(predicted).items():
            place = places.get(label) or self._other()
            cells[place] += times

    def _set_classes(self, classes: Sequence[object]) -> None:
        self._places = {label: self._place(_text(label)) for label in classes[:MOST_CLASSES]}
        self._classes = classes

    def _other(self) -> int:
        return self._place(OTHER)

    def _place(self, label: str) -> int:
        return self._page.place(key("retort_predicted_classes", *self._labels, label))


def _text(label: object) -> str:
    """Return a class as the value of a label, with bounded length and valid in the name of a block."""
    return str(label)[:MOST_CLASS_CHARS].replace(SEPARATOR, " ").encode("utf-8", "replace").decode()
