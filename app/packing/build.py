"""Build a version in its staging folder and publish it: the steps that `add` and `repack` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from app.errors import PackingRefused
from app.packing import stages
from app.packing.artifacts import opening
from app.packing.direct_call import direct_servable
from app.packing.explain import derive_explanation
from app.packing.graph import GRAPH, derive_graph
from app.packing.probe import MAX_SAMPLE_ROWS, Record, answered_rows
from app.packing.spawn import Interpreter, PackRequest, RepackRequest, Result, ServeRequest, run
from app.packing.stress import Pools
from app.packing.timing import artifact_cost_us
from app.packing.verdict import Verdict
from app.runtime.environment import environment
from app.runtime.servable import ArtifactServable, Servable
from app.signature import Signature
from app.signature.batch import json_values
from app.signature.validator import Validator
from app.storage import manifest as manifests
from app.storage.manifest import RECORDED, Assumption, Example, Manifest, Recorded, write_recorded
from app.storage.repository import Repository
from app.storage.verification import sha256_of

MAX_EXAMPLES = 5
SERVE_TIMEOUT_S = 600.0
MAX_RECORDED_ROWS = 300
MAX_RECORDED_CELLS = 200_000
MIN_RECORDED_ROWS = 20
RECORDS, CROSSED, NEAR, FAR = 100, 70, 70, 30
"""Numbers of recorded rows: sample rows, rows that mix sample values, rows with values near to and far from those.

Each other recorded row is a sample row with one input changed.
"""


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted estimator, its signature, and records that it answers.

    Where an input of `signature` is an array or an image, `by_column` and `rows` have one input for each column of the
    estimator's matrix instead. Otherwise they are the same as `signature` and `records`.
    """

    estimator: Any
    signature: Signature
    records: list[Record]
    by_column: Signature
    rows: list[Record]

    @property
    def has_arrays(self) -> bool:
        """Whether an input fills several columns of the estimator's matrix."""
        return any(spec.shape is not None for spec in self.signature.inputs)


def _build(
    model: Model, manifest: Manifest, folder: Path, graph_limit_bytes: int, answers: Recorded | None = None
) -> tuple[Manifest, int]:
    """Record the answers of an artifact, time it, compile and prove its graph, and complete its manifest.

    Returns:
        The manifest, and the number of recorded rows.
    """
    estimator, signature, records = model.estimator, model.signature, model.records
    stages.enter("looking for the quickest way to call the artifact")
    artifact = folder / manifest.artifact
    direct = direct_servable(estimator, lambda: opening.read(artifact, manifest.format), signature, records)
    servable = direct or ArtifactServable(estimator, signature)
    stages.enter("recording its answers")
    answers = answers or _record(estimator, signature, records)
    if answers is not None:
        write_recorded(folder, answers)
    stages.enter("compiling the graph")
    timed_servable = ArtifactServable(estimator, model.by_column) if model.has_arrays else servable
    proof = derive_graph(
        estimator, timed_servable, model.by_column, model.rows, folder, graph_limit_bytes, matrix=model.has_arrays
    )
    stages.enter("finding out how to explain predictions")
    explanation = derive_explanation(estimator, servable, signature, records, folder, has_arrays=model.has_arrays)
    complete = replace(
        manifest,
        created=now(),
        explanation=explanation,
        files=hashed(folder),
        environment=environment(),
        graph=GRAPH if (folder / GRAPH).exists() else None,
        proof=proof,
        artifact_cost_us=artifact_cost_us(
            servable, signature, records, taken_us=proof if timed_servable is servable else None
        ),
        lean=direct.call if direct else None,
        recorded=RECORDED if answers else None,
    )
    return complete, len(answers.instances) if answers else 0


def publish(
    repository: Repository,
    folder: Path,
    model: Model,
    manifest: Manifest,
    request: PackRequest | RepackRequest,
    answers: Recorded | None = None,
) -> tuple[Manifest, Verdict]:
    """Build a version in its staging folder, which has the artifact, and move it into place.

    If another Python will serve it, refuse it if that Python cannot load it or gives other answers. `answers` are rows
    and answers that are recorded already; with None, record some.

    Returns:
        The manifest, and the verdict on the version.
    """
    manifest, recorded_rows = _build(model, manifest, folder, request.graph_limit_bytes, answers)
    served = Result(environment=environment(), rows=recorded_rows)
    if request.served_by is not None:
        served = _check_serving(request.served_by, folder, manifest)
        manifest = replace(manifest, served_by=served.environment)
    published = repository.publish(folder, manifest, answers=not request.staged)
    compared, difference = manifest.proof.get("rows"), manifest.proof.get("largest_difference")
    verdict = Verdict(
        published.trained_with,
        published.trained_with_source,
        published.environment,
        served.environment,
        published.runtime,
        largest_difference=difference if isinstance(difference, float) else None,
        equal_rows=compared if isinstance(compared, int) else served.rows,
    )
    return published, verdict


def examples_of(servable: Servable, signature: Signature, records: list[Record]) -> tuple[Example, ...]:
    """Return the records with the default outputs that the servable gives for them."""
    if not records:
        return ()
    batch = Validator(signature, MAX_SAMPLE_ROWS).validate(records)
    try:
        outputs = servable.run(batch, signature.defaults)
    except Exception as error:  # whatever a model may raise
        raise PackingRefused(f"the model fails on its own examples ({type(error).__name__}: {error})") from error
    values = {name: json_values(array) for name, array in outputs.items()}
    return tuple(Example(record, {name: values[name][row] for name in values}) for row, record in enumerate(records))


def training_assumptions(request: PackRequest | RepackRequest) -> tuple[Assumption, ...]:
    """Return the assumptions about the training environment."""
    notes = request.training_notes
    if not request.trained_with:
        notes += ("the artifact does not name its training environment; taken for the installed libraries",)
    return tuple(Assumption("training environment", note) for note in notes)


def hashed(folder: Path) -> dict[str, manifests.FileRecord]:
    """Return the hash and the size of each file in a staging folder."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


def now() -> str:
    """Return the time as a manifest has it: ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check_serving(python: str, folder: Path, manifest: Manifest) -> Result:
    """Check that the Python that will serve a staged version loads it and gives all its recorded answers."""
    manifests.write(folder, manifest)
    try:
        return run(ServeRequest(str(folder)), SERVE_TIMEOUT_S, interpreter=Interpreter(python))
    except PackingRefused as error:
        why = f" ({manifest.proof['reason']})" if "reason" in manifest.proof else ""
        trained = ", ".join(named.replace("==", " ") for named in manifest.trained_with)
        where = f"was trained with {trained} (says {manifest.trained_with_source}) and was packed there"
        raise PackingRefused(
            f"it {where if trained else 'was packed in another environment'}, but it has no graph{why}, and the "
            f"installed libraries cannot serve it: {error.detail}"
        ) from None


def _record(estimator: Any, signature: Signature, records: Sequence[Record]) -> Recorded | None:
    """Record the answers to a few hundred rows, run as one batch; return None if the model answers none of them."""
    cells = sum(spec.width for spec in signature.inputs) or 1
    rows = _rows_to_record(signature, records)[
        : max(MIN_RECORDED_ROWS, min(MAX_RECORDED_ROWS, MAX_RECORDED_CELLS // cells))
    ]
    accepted = [rows[position] for position in answered_rows(estimator, signature, rows)]
    if not accepted:
        return None
    try:
        batch = Validator(signature, MAX_RECORDED_ROWS).validate(accepted)
        outputs = ArtifactServable(estimator, signature).run(batch, signature.outputs)
    except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
        return None
    return Recorded(accepted, {name: json_values(array) for name, array in outputs.items()})


def _rows_to_record(signature: Signature, records: Sequence[Record]) -> list[Record]:
    """Return sample rows and made-up rows by turns."""
    sampled = (
        [records[i * len(records) // RECORDS] for i in range(RECORDS)] if len(records) > RECORDS else list(records)
    )
    try:
        pools = Pools(signature, records)
        made_up = [*pools.crossed(CROSSED), *pools.mixed(NEAR, far=False), *pools.mixed(FAR, far=True)]
        made_up += islice(pools.one_by_one(), MAX_RECORDED_ROWS)
    except (KeyError, TypeError, ValueError):  # arrays, images, records: their other possible values are unknown
        made_up = []
    # By turns, so that a few rows are of both kinds as well.
    return (
        [row for pair in zip(sampled, made_up, strict=False) for row in pair]
        + sampled[len(made_up) :]
        + made_up[len(sampled) :]
    )
