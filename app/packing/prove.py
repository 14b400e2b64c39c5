"""Is the graph the estimator? Both answer the same rows, and every answer is compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing import stages
from app.packing.stress import stress_rows
from app.packing.trial import Record
from app.runtime.proving import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE, same
from app.runtime.servable import Servable
from app.signature import Signature
from app.signature.batch import Batch, Outputs, json_values
from app.signature.schema import Validator

BATCH_SIZES = (1, 2, 31)
CHUNK_ROWS = 1000
TIMED_SECONDS = 0.1
ROWS_TOGETHER = 8


class NotProven(Exception):
    """The graph differs from its estimator; the text says where, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was tried and measured: rows compared, the largest relative difference, microseconds of 1 and 1,000 rows."""

    rows: int
    rows_refused_by_estimator: int
    largest_difference: float
    graph_us: float
    graph_1000_us: float
    artifact_us: float
    artifact_1000_us: float


def prove(
    estimator: Any,
    artifact: Servable,
    graph: Servable,
    served: Servable,
    signature: Signature,
    records: Sequence[Record],
) -> Proof:
    """Compares artifact and graph on the records and on rows made to find a difference; times the graph and `served`.

    Labels must be identical, floats equal within 1e-9 relative or 1e-12 absolute. A row on which the estimator itself
    raises is one that the graph must not answer either.

    Raises:
        NotProven: with the first difference.
    """
    comparison = _Comparison(artifact, graph, signature)
    stages.enter("making rows on which the graph might differ")
    rows = stress_rows(estimator, signature, records, comparison.answers)
    for size in BATCH_SIZES:
        for start in range(0, min(len(records), 4 * size), size):
            comparison.compare(list(records[start : start + size]))
    for start in range(0, len(rows), CHUNK_ROWS):
        stages.enter("comparing the graph with the artifact", start, len(rows))
        comparison.compare(rows[start : start + CHUNK_ROWS])
    stages.enter("timing the graph and the artifact")
    thousand = [records[i % len(records)] for i in range(1000)]
    one, many = comparison.batch([records[0]]), comparison.batch(thousand)
    return Proof(
        comparison.rows,
        comparison.refused,
        comparison.largest_difference,
        graph_us=timed_us(lambda: graph.run(one, signature.defaults)),
        graph_1000_us=timed_us(lambda: graph.run(many, signature.defaults)),
        artifact_us=timed_us(lambda: served.run(one, signature.defaults)),
        artifact_1000_us=timed_us(lambda: served.run(many, signature.defaults)),
    )


def artifact_cost_us(artifact: Servable, signature: Signature, records: Sequence[Record]) -> dict[str, float]:
    """What a run of 1 and of 32 rows takes, in microseconds, by the number of rows; empty without records.

    Not of 32 where rows together are answered otherwise than alone: requests must not share a run then.
    """
    if not records:
        return {}
    costs = {}
    for rows in (1, 32) if rows_are_independent(artifact, signature, records) else (1,):
        batch = Validator(signature, 10**6).validate([records[i % len(records)] for i in range(rows)])
        costs[str(rows)] = timed_us(partial(artifact.run, batch, signature.defaults))
    return costs


def rows_are_independent(artifact: Servable, signature: Signature, records: Sequence[Record]) -> bool:
    """Whether the model, asked for rows together, answers each as if it were alone."""
    validator, some = Validator(signature, 10**6), records[:ROWS_TOGETHER]
    try:
        batches = [some, *([record] for record in some)]
        together, *alone = (artifact.run(validator.validate(rows), signature.outputs) for rows in batches)
        return all(
            same(json_values(together[name])[row], json_values(alone[row][name])[0])
            for name in signature.outputs
            for row in range(len(some))
        )
    except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
        return False


class _Comparison:
    """Compares batch after batch and keeps count."""

    def __init__(self, artifact: Servable, graph: Servable, signature: Signature) -> None:
        self._artifact = artifact
        self._graph = graph
        self._signature = signature
        self._validator = Validator(signature, 10**6)
        self.rows = 0
        self.refused = 0
        self.largest_difference = 0.0

    def batch(self, records: list[Record]) -> Batch:
        return self._validator.validate(records)

    def answers(self, records: list[Record]) -> NDArray[Any]:
        """One value for each row by which a step of the estimator shows: the first column of its richest output.

        Scores rather than labels: where a smooth score crosses zero there is no step, and the label at the last bit is
        the rounding of a sum whose order depends on how many rows the estimator is asked at once.
        """
        scores = "decision_scores" in self._signature.outputs
        name = "decision_scores" if scores else self._signature.defaults[-1]
        try:
            output = np.asarray(self._artifact.run(self.batch(records), [name])[name])
        except Exception:  # noqa: BLE001 (around run: where it raises there is no step to be found)
            return np.zeros(len(records))
        first = output if output.ndim == 1 else output[:, 0]
        return np.array([str(value) for value in first]) if first.dtype == object else first

    def compare(self, records: list[Record]) -> None:
        """Compares the rows as one batch; where the estimator raises, by halves, down to the row that it refuses."""
        batch = self.batch(records)
        try:
            wanted = self._artifact.run(batch, self._signature.outputs)
        except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
            if len(records) == 1:
                self._compare_refusal(batch, records[0])
                return
            middle = len(records) // 2
            self.compare(records[:middle])
            self.compare(records[middle:])
            return
        try:
            got = self._graph.run(batch, self._signature.outputs)
        except Exception as error:
            raise NotProven(
                f"the graph fails where the estimator answers ({' '.join(str(error).split())[:200]})"
            ) from error
        self.rows += len(records)
        for name in self._signature.outputs:
            self._compare_output(name, wanted, got, records)

    def _compare_refusal(self, batch: Batch, row: Record) -> None:
        """Counts a row that the estimator refuses, if the graph fails on it as well."""
        self.refused += 1
        try:
            self._graph.run(batch, self._signature.outputs)
        except Exception:  # noqa: BLE001 (around run: it has no type of its own)
            return
        raise NotProven(f"the graph answers where the estimator fails, for {_shown(row)}")

    def _compare_output(self, name: str, wanted: Outputs, got: Outputs, records: list[Record]) -> None:
        was, now = _flat(wanted[name]), _flat(got[name])
        if was.shape != now.shape:
            raise NotProven(f"the graph's {name} has shape {now.shape}, the estimator's {was.shape}")
        if was.dtype.kind == "f" and now.dtype.kind == "f":
            equal = np.isclose(now, was, rtol=RELATIVE_TOLERANCE, atol=ABSOLUTE_TOLERANCE, equal_nan=True)
            self._note_difference(was, now)
        else:
            equal = np.asarray(was == now)
            if was.dtype.kind != now.dtype.kind and {was.dtype.kind, now.dtype.kind} - {"U", "O"}:
                raise NotProven(f"the graph's {name} is {now.dtype}, the estimator's {was.dtype}")
        if not equal.all():
            place = tuple(np.argwhere(~equal)[0].tolist())
            row = records[place[0]]
            raise NotProven(
                f"the graph's {name} is {now[place]} where the estimator's is {was[place]}, for {_shown(row)}"
            )

    def _note_difference(self, was: NDArray[Any], now: NDArray[Any]) -> None:
        finite = np.isfinite(was) & np.isfinite(now)
        if finite.any():
            # Measured as the tolerance is: relative, but near 0 against what is absolute there.
            floor = ABSOLUTE_TOLERANCE / RELATIVE_TOLERANCE
            relative = np.abs(was - now)[finite] / (np.abs(was)[finite] + floor)
            self.largest_difference = max(self.largest_difference, float(relative.max()))


def _shown(row: Record) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in list(row.items())[:8])


def _flat(output: NDArray[Any]) -> NDArray[Any]:
    """Probabilities of several targets, lists in an array of objects, as one matrix; everything else as it is."""
    if output.dtype == object and output.ndim == 1 and len(output) and isinstance(output[0], list):
        return np.array([[value for part in row for value in part] for row in output])
    return output


def timed_us(run: Callable[[], object]) -> float:
    """The median of repeated runs, in microseconds."""
    run()
    taken: list[float] = []
    until = time.perf_counter() + TIMED_SECONDS
    while len(taken) < 5 or (time.perf_counter() < until and len(taken) < 2000):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return round(float(np.median(taken)) * 1e6, 2)
