"""Read the artifact, the sample and the card that a request to pack names."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd

from app.errors import PackingRefused
from app.packing import sample
from app.packing.artifacts import opening
from app.packing.artifacts.opening import Artifact
from app.packing.artifacts.parts import Choice
from app.packing.inputs import with_saved_dtypes
from app.packing.sample.expected import Expected
from app.packing.spawn import PackRequest
from app.runtime.environment import environment

MAX_CARD_BYTES = 64 * 2**10


def open_requested(request: PackRequest) -> Artifact:
    """Read the artifact of a request.

    Refuse it if scikit-learn warns that another version saved it, and the request does not name the training
    environment.
    """
    choice = Choice(request.use, request.before, request.columns, request.labels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        artifact = opening.open_artifact(
            (request.artifact, *request.beside), choice, request.name, trust=request.trust, options=_options(request)
        )
    saved_with = {str(getattr(warning.message, "original_sklearn_version", "")) for warning in caught} - {""}
    if saved_with and not request.trained_with:
        version = sorted(saved_with)[0]
        raise PackingRefused(
            f"{request.artifact} was saved with scikit-learn {version}, and {environment()['scikit-learn']} is "
            f"installed: --trained-with scikit-learn=={version} packs it with that one"
        )
    return artifact


def _options(request: PackRequest) -> list[str]:
    """Return the options of a request that apply to any part of its artifact, as `flask models add` takes them."""
    targets = (request.target,) if isinstance(request.target, str) else request.target or ()
    values = [
        ("--sample", request.sample),
        *(("--target", target) for target in targets),
        ("--inputs", request.inputs),
        ("--card", request.card),
    ]
    given = [text for option, value in values if value is not None for text in (option, value)]
    return [*given, *["--trust"] * request.trust]


def require_steps(artifact: Artifact, request: PackRequest) -> None:
    """Refuse a name in `--before` that is neither a part of the artifact nor a step."""
    known = request.known_steps if request.known_steps is not None or not artifact.parts else ()
    unknown = [name for name in artifact.steps if known is not None and name not in known]
    if unknown:
        parts_text = f"the parts are: {', '.join(artifact.parts)}; " if artifact.parts else ""
        raise PackingRefused(
            f"--before {unknown[0]}: it is neither a part of the artifact nor a step of RETORT_STEPS; "
            f"{parts_text}the steps are: {', '.join(known or ()) or 'none'}"
        )


def with_dtypes(
    request: PackRequest, artifact: Artifact, given: sample.Sample | None
) -> tuple[pd.DataFrame | None, set[str]]:
    """Return the rows of the sample, and the columns whose dtype in training is known."""
    if given is None:
        return None, set()
    if request.sample_is_frame:
        return given.frame, set(given.frame.columns)
    if request.sample is not None:
        return with_saved_dtypes(Path(request.sample), given.frame)
    return with_saved_dtypes(artifact.example if isinstance(artifact.example, Path) else None, given.frame)


def sample_of(
    request: PackRequest, artifact: Artifact, expected: Expected
) -> tuple[sample.Sample | None, tuple[str, ...]]:
    """Read the sample, or else the example rows that came with the artifact.

    Returns:
        The sample, None if there are no rows; and notes on how it was read.
    """
    if request.sample is not None:
        read = sample.read_frame if request.sample_is_frame else sample.read
        rows = read(Path(request.sample), request.target, expected)
        return rows, rows.notes
    if isinstance(artifact.example, pd.DataFrame):
        return sample.Sample(artifact.example), ("its examples are those of its folder",)
    if artifact.example is None:
        return None, ()
    try:
        rows = sample.read(artifact.example, None, expected)
    except PackingRefused as error:
        return None, (f"its own examples are not taken: {error.detail}",)
    return rows, (f"its examples are those in {artifact.example.name}", *rows.notes)


def card_of(path: str | None) -> str:
    """Return the text of a file in UTF-8; empty if there is none."""
    if path is None:
        return ""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise PackingRefused(f"the card {path} cannot be read: {error.strerror}") from None
    if len(content) > MAX_CARD_BYTES:
        raise PackingRefused(f"the card {path} has {len(content)} bytes; at most {MAX_CARD_BYTES} are kept")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").strip()
    except UnicodeDecodeError:
        raise PackingRefused(f"the card {path} is not UTF-8") from None
