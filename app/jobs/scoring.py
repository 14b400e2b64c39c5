"""Score one part with one version: validate, run, encode. This is what worker processes do."""

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
from app.jobs.writing import encode, whole
from app.runtime.entry import Lease
from app.signature import Input
from app.signature.batch import Batch, Coded, CodedOutputs
from app.signature.field_errors import some
from app.signature.watch import NO_WARNINGS

MOST_INSTANCES = 4096
"""Rows that are scored together as plain values."""

Columns = dict[str, NDArray[Any] | Coded]
encode_lines = msgspec.json.Encoder().encode_lines


@dataclass(frozen=True, slots=True)
class OutputForm:
    """The form of each written part: the columns to keep, the format, and whether a part is a file of its own."""

    keep: tuple[str, ...]
    format: Format
    is_file: bool


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """The rows of a part as bytes of the output, and its rejects as lines of JSON."""

    number: int
    rows: int
    rejected: int
    output: bytes
    rejects: bytes
    names: tuple[str, ...]
    end: float


def score_rows(version: VersionFiles, form: OutputForm, rows: Part | Stretch) -> Iterator[ScoredPart]:
    """Score a part, or those that a stretch names. The version is loaded when this process sees it first.

    Raises:
        InputUnseen: This machine does not see the file of the stretch.
    """
    scorer = PartScorer(version.lease(), form)
    yield from map(scorer.score, [rows] if isinstance(rows, Part) else rows.read(scorer.signature, form.keep))


class PartScorer:
    """Scores parts with one version. Safe to call from several threads."""

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
            read = read_instances(part, self.signature, keep)
            scored = self._score_instances(read)
            kept: dict[str, Any] = {
                name: [values[at] for at in scored.positions.tolist()] for name, values in read.kept.items()
            }
            rows, wrong = len(read.instances), read.wrong
        else:
            table = read_table(part, self.signature, keep)
            scored = self._score_table(table)
            kept = dict(table.kept)
            if len(scored.positions) < table.rows:
                kept = {name: column.take(_indices(scored.positions)) for name, column in kept.items()}
            rows, wrong = table.rows, table.wrong
        columns = scored.columns or self._no_rows()
        if taken := [name for name in keep if name in columns]:
            raise ScoringRefused(f"the column {some(taken)} cannot be kept: an output of the model has that name")
        output = encode(kept, columns, self._form.format, is_file=self._form.is_file)
        rejects = _rejects(part, rows, wrong, scored.refused)
        rejected = len(wrong) + len(scored.refused)
        names = (*kept, *columns)
        return ScoredPart(part.number, rows + len(wrong), rejected, output, rejects, names, part.end)

    def _no_rows(self) -> Columns:
        """Return the columns of an answer without rows. They have the types of the answer for an example."""
        examples = [example.instance for example in self._lease.manifest.examples[:1]]
        answered = columns_of(self._stream.predict(examples).answer)
        return {name: column[:0] for name, column in answered.items()}

    def _score_table(self, table: TableRows) -> _Scored:
        """Score the good rows of a table as columns, and ask the validator about the others."""
        if not table.rows:
            return _Scored.none()
        checked = {spec.name: self._checked(table, spec) for spec in self.signature.inputs}
        masks = [each.good for each in checked.values() if each.good is not None]
        good: Mask | None = np.logical_and.reduce(masks) if masks else None
        rows = table.rows if good is None else int(np.count_nonzero(good))
        columns = self._run(_batch_of(checked, good, rows)) if rows else {}
        if columns is None:
            good, columns = np.zeros(table.rows, np.bool_), {}
        if good is None:
            return _Scored(np.arange(table.rows), columns, {})
        bad = np.flatnonzero(~good)
        if table.as_texts is not None:  # cells as they were written
            table = table.as_texts()
        rest = self._score_instances(InstanceRows([table.instance(row, self.signature) for row in bad.tolist()]))
        return _joined(
            np.flatnonzero(good),
            columns,
            bad[rest.positions],
            rest.columns,
            {int(bad[position]): error for position, error in rest.refused.items()},
        )

    def _checked(self, table: TableRows, spec: Input) -> CheckedColumn:
        try:
            return check(table.columns[spec.name], spec, spec.name in table.texts)
        except NotImplementedError as error:
            of = str(error)[:100]
            raise ScoringRefused(f"the column {spec.name} is of the type {of}, which no kind of input takes") from None
        except (OverflowError, UnicodeDecodeError):
            raise ScoringRefused(
                f"the column {spec.name} has dates beyond the year 9999, or text that is not UTF-8"
            ) from None

    def _run(self, batch: Batch) -> Columns | None:
        """Return the columns of the answer; None if rows have to be tried one by one."""
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

    def _score_instances(self, read: InstanceRows) -> _Scored:
        """Score plain values, as a stream over HTTP does."""
        most = max(1, min(MOST_INSTANCES, self._stream.most_instances))
        scored = _Scored.none()
        for begin in range(0, len(read.instances), most):
            block = read.instances[begin : begin + most]
            partial = self._stream.predict(block)
            positions = np.array([at for at in range(len(block)) if at not in partial.refused], dtype=np.intp)
            columns: Columns = {**columns_of(partial.answer)} if len(positions) else {}
            refused = {begin + at: error for at, error in partial.refused.items()}
            scored = _joined(
                scored.positions, scored.columns, positions + begin, columns, {**scored.refused, **refused}
            )
        return scored


@dataclass(frozen=True, slots=True)
class _Scored:
    """The positions of the scored rows, in order, their columns, and the errors of the others by position."""

    positions: NDArray[np.intp]
    columns: Columns
    refused: Mapping[int, RetortError]

    @classmethod
    def none(cls) -> _Scored:
        return cls(np.empty(0, dtype=np.intp), {}, {})


def _batch_of(checked: Mapping[str, CheckedColumn], good: Mask | None, rows: int) -> Batch:
    chosen = {name: each.select(good) for name, each in checked.items()}
    coded = {name: column for name, column in chosen.items() if isinstance(column, Coded)}
    columns = {name: column.column() if isinstance(column, Coded) else column for name, column in chosen.items()}
    return Batch(columns, rows, coded)


def _joined(
    first: NDArray[np.intp],
    first_columns: Columns,
    second: NDArray[np.intp],
    second_columns: Columns,
    refused: Mapping[int, RetortError],
) -> _Scored:
    """Join two groups of scored rows in the order of their positions."""
    if not len(first) or not len(second):
        return _Scored(first, first_columns, refused) if len(first) else _Scored(second, second_columns, refused)
    positions = np.concatenate([first, second])
    order = np.argsort(positions)
    columns: Columns = {
        name: np.concatenate([whole(column), whole(second_columns[name])])[order]
        for name, column in first_columns.items()
    }
    return _Scored(positions[order], columns, refused)


def _indices(positions: NDArray[np.intp]) -> Any:
    import pyarrow as pa

    return pa.array(positions)


def _rejects(part: Part, rows: int, wrong: Sequence[tuple[int, str]], refused: Mapping[int, RetortError]) -> bytes:
    """Return a line for each rejected row: its place, and what is wrong with it in the words of a 422."""
    if not wrong and not refused:
        return b""
    unread = dict(wrong)
    read = [position for position in range(rows + len(wrong)) if position not in unread]
    details: dict[int, dict[str, Any]] = {position: {"detail": detail} for position, detail in unread.items()}
    details |= {read[position]: _document(error) for position, error in refused.items()}
    order = sorted(details)
    where: dict[str, Any] = {"file": part.file} if part.file else {}
    unit = "row" if part.form == "arrow" else "line"
    places = places_of(part, order)
    return encode_lines(
        [{**where, unit: place, **details[position]} for place, position in zip(places, order, strict=True)]
    )


def _document(error: RetortError) -> dict[str, Any]:
    if not isinstance(error, InvalidInstances):
        return {"detail": error.detail}
    return {"detail": error.detail, "errors": [each.document() for each in error.errors]}
