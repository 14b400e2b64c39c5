"""Score one part with one version: validate, run, encode. Worker processes run this code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.core.answer import Answer, columns_of
from app.core.run import PredictionStream, run
from app.errors import InvalidInstances, ModelFailed, RetortError, ScoringRefused
from app.jobs.columns import CheckedColumn, Mask, check
from app.jobs.formats import Format, has_pyarrow
from app.jobs.parts import Part
from app.jobs.reading import InstanceRows, TableRows, places_of, read_instances, read_table
from app.jobs.stretches import Stretch
from app.jobs.versions import VersionFiles
from app.jobs.writing import encode, expand
from app.runtime.entry import Lease
from app.signature import Input
from app.signature.batch import Batch, Coded, CodedOutputs
from app.signature.field_errors import some
from app.signature.watch import NO_WARNINGS

MOST_INSTANCES = 4096
"""Most rows of plain values in one run of the model."""

Columns = dict[str, NDArray[Any] | Coded]
encode_lines = msgspec.json.Encoder().encode_lines


@dataclass(frozen=True, slots=True)
class OutputForm:
    """The form of the output: the columns to keep, the format, and whether each part is a separate file."""

    keep: tuple[str, ...]
    format: Format
    is_file: bool


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """The result of a part: counts of rows, its bytes of the output, and its rejects as lines of JSON."""

    number: int
    rows: int
    rejected: int
    output: bytes
    rejects: bytes
    names: tuple[str, ...]
    end: float


def score_rows(version: VersionFiles, form: OutputForm, rows: Part | Stretch) -> Iterator[ScoredPart]:
    """Score a part, or the parts of a stretch. The first call in a process loads the version.

    Raises:
        InputUnseen: This machine cannot read the file of the stretch.
    """
    scorer = PartScorer(version.lease(), form)
    yield from map(scorer.score, [rows] if isinstance(rows, Part) else rows.read(scorer.signature, form.keep))


class PartScorer:
    """Scorer of parts with one version. Safe to call from several threads."""

    def __init__(self, lease: Lease, form: OutputForm) -> None:
        self._lease = lease
        self._form = form
        self.signature = lease.validator.signature
        self._stream = PredictionStream(lease)

    def score(self, part: Part) -> ScoredPart:
        """Score the rows of a part.

        Raises:
            ScoringRefused: The part cannot be read.
        """
        keep = self._form.keep
        if part.form == "ndjson" or not has_pyarrow():
            instances = read_instances(part, self.signature, keep)
            scored = self._score_instances(instances)
            kept: dict[str, Any] = {
                name: [values[at] for at in scored.positions.tolist()] for name, values in instances.kept.items()
            }
            rows, unreadable = len(instances.instances), instances.unreadable
        else:
            table = read_table(part, self.signature, keep)
            scored = self._score_table(table)
            kept = dict(table.kept)
            if len(scored.positions) < table.rows:
                kept = {name: column.take(_indices(scored.positions)) for name, column in kept.items()}
            rows, unreadable = table.rows, table.unreadable
        columns = scored.columns or self._empty_columns()
        if taken := [name for name in keep if name in columns]:
            raise ScoringRefused(f"the column {some(taken)} cannot be kept: an output of the model has that name")
        output = encode(kept, columns, self._form.format, is_file=self._form.is_file)
        rejects = _encode_rejects(part, rows, unreadable, scored.refused)
        rejected = len(unreadable) + len(scored.refused)
        names = (*kept, *columns)
        return ScoredPart(part.number, rows + len(unreadable), rejected, output, rejects, names, part.end)

    def _empty_columns(self) -> Columns:
        """Return the output columns without rows, with the types of the prediction for an example."""
        examples = [example.instance for example in self._lease.manifest.examples[:1]]
        answer_columns = columns_of(self._stream.predict(examples).answer)
        return {name: column[:0] for name, column in answer_columns.items()}

    def _score_table(self, table: TableRows) -> _Scored:
        """Score the good rows of a table as columns. Score the others as plain values, to get their errors."""
        if not table.rows:
            return _Scored.none()
        checked = {spec.name: self._check_column(table, spec) for spec in self.signature.inputs}
        masks = [column.good for column in checked.values() if column.good is not None]
        good: Mask | None = np.logical_and.reduce(masks) if masks else None
        rows = table.rows if good is None else int(np.count_nonzero(good))
        columns = self._run(_batch_of(checked, good, rows)) if rows else {}
        if columns is None:
            good, columns = np.zeros(table.rows, np.bool_), {}
        if good is None:
            return _Scored(np.arange(table.rows), columns, {})
        bad = np.flatnonzero(~good)
        if table.as_texts is not None:  # to report cells as they are in the file
            table = table.as_texts()
        others = self._score_instances(InstanceRows([table.instance(row, self.signature) for row in bad.tolist()]))
        return _join(
            np.flatnonzero(good),
            columns,
            bad[others.positions],
            others.columns,
            {int(bad[position]): error for position, error in others.refused.items()},
        )

    def _check_column(self, table: TableRows, spec: Input) -> CheckedColumn:
        try:
            return check(table.columns[spec.name], spec, spec.name in table.texts)
        except NotImplementedError as error:
            arrow_type = str(error)[:100]
            raise ScoringRefused(
                f"the column {spec.name} is of the type {arrow_type}, which no kind of input takes"
            ) from None
        except (OverflowError, UnicodeDecodeError):
            raise ScoringRefused(
                f"the column {spec.name} has dates beyond the year 9999, or text that is not UTF-8"
            ) from None

    def _run(self, batch: Batch) -> Columns | None:
        """Run the model and return the output columns; None if rows have to be scored one by one."""
        manifest, watch = self._lease.manifest, self._lease.validator.watch
        try:
            if watch is not None and self.signature.out_of_range == "reject":
                watch.check(batch, lambda row: ("#", False))
            outputs = run(self._lease, batch, manifest.signature.defaults)
        except (InvalidInstances, ModelFailed):
            return None
        if not isinstance(outputs, CodedOutputs):
            return {**columns_of(Answer.of(manifest, outputs, NO_WARNINGS))}
        distinct = columns_of(Answer.of(manifest, outputs.distinct, NO_WARNINGS))
        return {name: Coded(column, outputs.places) for name, column in distinct.items()}

    def _score_instances(self, rows: InstanceRows) -> _Scored:
        """Score plain values in the same way as streams over HTTP."""
        most_rows = max(1, min(MOST_INSTANCES, self._stream.most_instances))
        scored = _Scored.none()
        for begin in range(0, len(rows.instances), most_rows):
            block = rows.instances[begin : begin + most_rows]
            partial = self._stream.predict(block)
            positions = np.array([at for at in range(len(block)) if at not in partial.refused], dtype=np.intp)
            columns: Columns = {**columns_of(partial.answer)} if len(positions) else {}
            refused = {begin + at: error for at, error in partial.refused.items()}
            scored = _join(scored.positions, scored.columns, positions + begin, columns, {**scored.refused, **refused})
        return scored


@dataclass(frozen=True, slots=True)
class _Scored:
    """The sorted positions of the scored rows, their output columns, and the errors of the other rows by position."""

    positions: NDArray[np.intp]
    columns: Columns
    refused: Mapping[int, RetortError]

    @classmethod
    def none(cls) -> _Scored:
        return cls(np.empty(0, dtype=np.intp), {}, {})


def _batch_of(checked: Mapping[str, CheckedColumn], good: Mask | None, rows: int) -> Batch:
    selected = {name: column.select(good) for name, column in checked.items()}
    coded = {name: column for name, column in selected.items() if isinstance(column, Coded)}
    columns = {name: column.column() if isinstance(column, Coded) else column for name, column in selected.items()}
    return Batch(columns, rows, coded)


def _join(
    first: NDArray[np.intp],
    first_columns: Columns,
    second: NDArray[np.intp],
    second_columns: Columns,
    refused: Mapping[int, RetortError],
) -> _Scored:
    """Merge two groups of scored rows, in the order of their positions."""
    if not len(first) or not len(second):
        return _Scored(first, first_columns, refused) if len(first) else _Scored(second, second_columns, refused)
    positions = np.concatenate([first, second])
    order = np.argsort(positions)
    columns: Columns = {
        name: np.concatenate([expand(column), expand(second_columns[name])])[order]
        for name, column in first_columns.items()
    }
    return _Scored(positions[order], columns, refused)


def _indices(positions: NDArray[np.intp]) -> Any:
    import pyarrow as pa

    return pa.array(positions)


def _encode_rejects(
    part: Part, rows: int, unreadable: Sequence[tuple[int, str]], refused: Mapping[int, RetortError]
) -> bytes:
    """Return a line of JSON for each rejected row: its place, and its errors as in a response with status 422."""
    if not unreadable and not refused:
        return b""
    reasons = dict(unreadable)
    readable = [position for position in range(rows + len(unreadable)) if position not in reasons]
    details: dict[int, dict[str, Any]] = {position: {"detail": detail} for position, detail in reasons.items()}
    details |= {readable[position]: _document(error) for position, error in refused.items()}
    order = sorted(details)
    file: dict[str, Any] = {"file": part.file} if part.file else {}
    unit = "row" if part.form == "arrow" else "line"
    places = places_of(part, order)
    return encode_lines(
        [{**file, unit: place, **details[position]} for place, position in zip(places, order, strict=True)]
    )


def _document(error: RetortError) -> dict[str, Any]:
    if not isinstance(error, InvalidInstances):
        return {"detail": error.detail}
    return {"detail": error.detail, "errors": [field_error.document() for field_error in error.errors]}
