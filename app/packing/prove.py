"""Prove that a graph equals its estimator: both answer the same rows, and every answer is compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import one_line
from app.packing import stages
from app.packing.probe import Record, small_batches
from app.packing.stress import stress_rows
from app.packing.timing import compared_us, slower_sentence, slower_times
from app.runtime.proving import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from app.runtime.servable import Servable
from app.signature import Signature
from app.signature.batch import Batch, Outputs
from app.signature.validator import Validator

CHUNK_ROWS = 1000


class NotProven(Exception):
    """The graph differs from its estimator; the text says where."""


def proof_of(rows: int, refused: int, largest_difference: float, taken_us: dict[str, float]) -> dict[str, object]:
    """Return a proof as the manifest has it; `slower` is a sentence, if the graph is slower for some rows.

    `refused` rows were refused by the estimator. The difference is relative. `taken_us` has the times of graph and
    artifact from `timing.compared_us`.
    """
    times = slower_times(taken_us)
    proof: dict[str, object] = {
        "proven": True,
        "rows": rows,
        "rows_refused_by_estimator": refused,
        "largest_difference": largest_difference,
        **taken_us,
        "slower_times": times,
    }
    return proof | ({"slower": slower_sentence(times)} if times else {})


def prove(
    estimator: Any,
    artifact: Servable,
    graph: Servable,
    served: Servable,
    signature: Signature,
    records: Sequence[Record],
) -> dict[str, object]:
    """Compare artifact and graph on the records and on rows made to find a difference.

    Labels must be identical, floats equal within 1e-9 relative or 1e-12 absolute. The graph must not answer a row on
    which the estimator raises. `artifact` is called as a notebook would call it; `served` is the quickest way to call
    the estimator, with which the time of the graph is compared.

    Raises:
        NotProven: with the first difference.
    """
    comparison = _Comparison(artifact, graph, signature)
    stages.enter("making rows on which the graph might differ")
    rows = stress_rows(estimator, signature, records, comparison.answers)
    for batch in small_batches(records):
        comparison.compare(batch)
    for start in range(0, len(rows), CHUNK_ROWS):
        stages.enter("comparing the graph with the artifact", start, len(rows))
        comparison.compare(rows[start : start + CHUNK_ROWS])
    stages.enter("timing the graph and the artifact")
    taken_us = compared_us(graph, served, signature, records)
    return proof_of(comparison.rows, comparison.refused, comparison.largest_difference, taken_us)


class _Comparison:
    """Compare batch after batch, and count rows."""

    def __init__(self, artifact: Servable, graph: Servable, signature: Signature) -> None:
        self._artifact = artifact
        self._graph = graph
        self._signature = signature
        self._validate = Validator(signature, 10**6).validate
        self.rows = 0
        self.refused = 0
        self.largest_difference = 0.0

    def answers(self, records: list[Record]) -> NDArray[Any]:
        """Return one value for each row that shows the steps of the estimator: the first column of its richest output.

        This takes scores rather than labels. Where a smooth score crosses zero there is no step: the label there
        depends on the rounding of a sum, whose order depends on how many rows the estimator is asked at once.
        """
        scores = "decision_scores" in self._signature.outputs
        name = "decision_scores" if scores else self._signature.defaults[-1]
        try:
            output = np.asarray(self._artifact.run(self._validate(records), [name])[name])
        except Exception:  # noqa: BLE001 (around run: where it raises there is no step to be found)
            return np.zeros(len(records))
        first = output if output.ndim == 1 else output[:, 0]
        return np.array([str(value) for value in first]) if first.dtype == object else first

    def compare(self, records: list[Record]) -> None:
        """Compare the rows as one batch; if the estimator raises, compare halves, down to the row that it refuses."""
        batch = self._validate(records)
        try:
            expected = self._artifact.run(batch, self._signature.outputs)
        except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
            if len(records) == 1:
                self._compare_refusal(batch, records[0])
                return
            middle = len(records) // 2
            self.compare(records[:middle])
            self.compare(records[middle:])
            return
        try:
            actual = self._graph.run(batch, self._signature.outputs)
        except Exception as error:
            raise NotProven(f"the graph fails where the estimator answers ({one_line(error)})") from error
        self.rows += len(records)
        for name in self._signature.outputs:
            self._compare_output(name, expected, actual, records)

    def _compare_refusal(self, batch: Batch, row: Record) -> None:
        """Count a row that the estimator refuses; the graph must fail on it as well."""
        self.refused += 1
        try:
            self._graph.run(batch, self._signature.outputs)
        except Exception:  # noqa: BLE001 (around run: it has no type of its own)
            return
        raise NotProven(f"the graph answers where the estimator fails, for {_text_of_row(row)}")

    def _compare_output(self, name: str, expected: Outputs, actual: Outputs, records: list[Record]) -> None:
        was, now = _as_matrix(expected[name]), _as_matrix(actual[name])
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
                f"the graph's {name} is {now[place]} where the estimator's is {was[place]}, for {_text_of_row(row)}"
            )

    def _note_difference(self, was: NDArray[Any], now: NDArray[Any]) -> None:
        finite = np.isfinite(was) & np.isfinite(now)
        if finite.any():
            # Relative, as the tolerance is; near 0 the absolute tolerance takes the place of the value.
            floor = ABSOLUTE_TOLERANCE / RELATIVE_TOLERANCE
            relative = np.abs(was - now)[finite] / (np.abs(was)[finite] + floor)
            self.largest_difference = max(self.largest_difference, float(relative.max()))


def _text_of_row(row: Record) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in list(row.items())[:8])


def _as_matrix(output: NDArray[Any]) -> NDArray[Any]:
    """Return the probabilities of several targets, lists in an array of objects, as one matrix; others as they are."""
    if output.dtype == object and output.ndim == 1 and len(output) and isinstance(output[0], list):
        return np.array([[value for part in row for value in part] for row in output])
    return output
