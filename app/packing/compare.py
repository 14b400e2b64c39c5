"""Compare two versions of a model: how often their answers to the same rows agree, and where they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.errors import InvalidInstances, PackingRefused
from app.packing import sample
from app.packing.inputs import records_of
from app.packing.probe import MAX_SAMPLE_ROWS
from app.packing.sample.expected import Column, Expected
from app.packing.spawn import CompareRequest, Result
from app.runtime.entry import Lease
from app.runtime.loaders import LOADERS
from app.runtime.policy import State
from app.runtime.proving import same
from app.runtime.version_loader import VersionLoader
from app.signature.batch import json_values
from app.signature.validator import Validator
from app.storage.repository import Repository

Numbers = NDArray[np.float64]
MAX_ROWS_SHOWN = 10
MAX_VALUE_CHARS = 60


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a version by row: predictions as JSON values and, if there are any, probabilities by class."""

    version: int
    predictions: list[Any]
    probabilities: list[Any] | None
    classes: tuple[Any, ...] | None


def compare(request: CompareRequest) -> Result:
    """Compare the answers of two versions to every row of a file."""
    repository = Repository(Path(request.models_dir))
    signature = repository.manifest(request.model, request.versions[0]).signature
    columns = {spec.name: Column(spec.categories, text=spec.kind == "text") for spec in signature.inputs}
    frame = sample.read(Path(request.rows), request.target, Expected(columns=columns)).frame
    first, second = (_answers(repository, request.model, version, frame) for version in request.versions)
    measure = _measure(first, second)
    distances = _distances(first, second, measure)
    agreeing = sum(map(same, first.predictions, second.predictions))
    rows = len(first.predictions)
    lines = [f"versions {first.version} and {second.version} agree on {agreeing:,} of {rows:,} rows"]
    lines[0] += f" ({100 * agreeing / rows:.1f} %)"
    if distances.any():
        if measure is not None:
            lines.append(f"their {measure} differ by {_short(distances.mean())} on average, at most by ")
            lines[-1] += _short(distances.max())
        lines.append("rows that differ most, counted from 0:")
        of = "probabilities " if measure == "probabilities" else ""
        for row in np.argsort(-distances, kind="stable")[: min(MAX_ROWS_SHOWN, np.count_nonzero(distances))].tolist():
            line = f"row {row}: {_short(first.predictions[row])} and {_short(second.predictions[row])}"
            lines.append(line if measure is None else f"{line}, {of}{_short(distances[row])} apart")
    return Result(remarks=tuple(lines))


def _answers(repository: Repository, model: str, version: int, frame: pd.DataFrame) -> Answers:
    """Run a version on all rows; refuse one that cannot be served."""
    loader = VersionLoader(repository, LOADERS, lambda signature: Validator(signature, MAX_SAMPLE_ROWS))
    entry = loader.tried(model, version)
    if entry.state is not State.AVAILABLE:
        raise PackingRefused(f"version {version} cannot be served: {entry.reason}")
    lease = entry.required_lease()
    signature = lease.manifest.signature
    columns = _columns(frame, signature.names, version)
    output_names = [name for name in ("prediction", "probabilities") if name in signature.outputs]
    outputs: dict[str, list[Any]] = {name: [] for name in output_names}
    for start in range(0, len(frame), MAX_SAMPLE_ROWS):
        records = records_of(columns.iloc[start : start + MAX_SAMPLE_ROWS], signature.names)
        for name, values in _run_chunk(lease, records, output_names, start).items():
            outputs[name] += values
    probabilities = outputs.get("probabilities")
    if probabilities and signature.multioutput:  # a list for each target, whose classes may differ in number
        probabilities = [[share for target in row for share in target] for row in probabilities]
    return Answers(version, outputs["prediction"], probabilities, signature.classes)


def _columns(frame: pd.DataFrame, names: Sequence[str], version: int) -> pd.DataFrame:
    """Return the columns that a version takes: by name, or by position if it has as many others."""
    positions = {str(name): position for position, name in enumerate(frame.columns)}
    missing = [name for name in names if name not in positions]
    if not missing:
        return frame.iloc[:, [positions[name] for name in names]]
    if len(missing) == len(names) == len(positions):
        return frame
    raise PackingRefused(f"the file lacks {', '.join(missing[:10])}, which version {version} takes")


def _run_chunk(lease: Lease, records: list[dict[str, Any]], outputs: Sequence[str], start: int) -> dict[str, list[Any]]:
    version = lease.manifest.version
    try:
        batch = lease.validator.validate(records)
    except InvalidInstances as error:
        _, row, field = (error.errors[0].pointer + "/").split("/")[:3]  # #/row/field
        raise PackingRefused(
            f"version {version} does not accept row {start + int(row)} of the file: {field} {error.errors[0].detail}"
        ) from None
    try:
        arrays = lease.servable.run(batch, outputs)
    except Exception as error:
        raise PackingRefused(f"version {version} fails on the file's rows ({type(error).__name__}: {error})") from error
    return {name: json_values(arrays[name]) for name in outputs}


def _measure(first: Answers, second: Answers) -> str | None:
    """Return the output to measure differences in: probabilities of the same classes, else numbers; None if neither."""
    one, other = first.probabilities, second.probabilities
    if one and other and first.classes == second.classes and np.ndim(one) == np.ndim(other) == 2:
        return "probabilities"
    values = [*first.predictions, *second.predictions]
    # Labels may be numbers as well, but the distance between them says nothing.
    numbers = first.classes is None and set(map(type, values)) <= {int, float, type(None)}
    return "predictions" if numbers else None


def _distances(first: Answers, second: Answers, measure: str | None) -> Numbers:
    """Return the difference between the two answers to each row; without a measure, whether they differ."""
    if measure is None:
        return np.array([not same(*pair) for pair in zip(first.predictions, second.predictions, strict=True)], float)
    was, now = (np.array(getattr(answers, measure), dtype=np.float64) for answers in (first, second))
    apart: Numbers = np.nan_to_num(np.abs(was - now))
    return apart.max(axis=1) if measure == "probabilities" else np.where(np.isnan(was) != np.isnan(now), np.inf, apart)


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"
