"""The manifest beside an artifact: the facts of a version, which can be read without unpickling anything."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from app.errors import InvalidRepository
from app.signature import Signature
from app.storage.writing import write_synced

MANIFEST = "manifest.json"
MANIFEST_SHA256 = "manifest.sha256"
"""The SHA-256 of the manifest, as `sha256sum` writes it and `sha256sum -c` checks it."""
FORMAT_VERSION = 1
RECORDED = "recorded.json.gz"
MAX_RECORDED_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class FileRecord:
    """The SHA-256 (hexadecimal) and the size that a file of a version must have."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Example:
    """One instance, and the value of each output that the estimator gave for it at packing time (JSON values)."""

    instance: dict[str, object]
    outputs: dict[str, object]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Instances, and the values of each output for them as one batch (JSON values), recorded at packing.

    The model must give the same answers with other libraries.
    """

    instances: list[dict[str, object]]
    outputs: dict[str, list[object]]


@dataclass(frozen=True, slots=True)
class Assumption:
    """A fact of training that packing had to assume, as one sentence; `inputs` are the names of the inputs concerned.

    It is about the dtypes or missing values of `inputs`, about how the file of the `sample` was read, or about the
    `training environment`.
    """

    about: Literal["inputs", "sample", "training environment"]
    text: str
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DirectCall:
    """A faster way of calling an artifact. Packing found that its answers are equal to the last bit.

    With `matrix`, a model that was fitted on a frame gets a matrix. With `unchecked`, the checks of scikit-learn are
    left out, because the signature has made them already.
    """

    matrix: bool
    unchecked: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """The method that explains the predictions of a version.

    Attributes:
        file: The file with the arrays of the explainer.
        method: "trees" and "linear" are exact; "sampled" is approximate.
        output: The explained output.
        rows: The rows on which packing compared base and contributions with this output.
        largest_difference: The largest difference found there.
    """

    file: str
    method: Literal["trees", "linear", "sampled"]
    output: str
    rows: int
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """The facts of one version.

    Attributes:
        created: The time of packing, ISO 8601 in UTC.
        environment: The versions of the libraries at packing, which gave the recorded answers and proved the graph.
        graph: The file of the graph, if it is proven equal.
        proof: The measurements of the proof, or the reason why there is no graph.
        artifact_cost_us: The time of a run of the artifact at packing, in microseconds, by its number of rows.
        before: The names of the steps before a run.
        after: The names of the steps after a run.
        lean: The direct call of the artifact; None if it is called as in a notebook. The key is older than the class.
        trained_with: The known requirements of the training environment.
        trained_with_source: The source of these requirements.
        recorded: The file of the rows for which other libraries must give the same answers.
        served_by: The serving libraries, with which packing tried the version, if they differ from `environment`.
        assumptions: The facts of training that neither the artifact nor the sample shows.
        card: The author's description of the model, in Markdown.
        profile: The distributions of the sample's inputs and of the predictions for it; empty without a sample.
        explanation: How its predictions are explained; None if they are not.
    """

    model: str
    version: int
    created: str
    task: str
    estimator: str
    format: str
    artifact: str
    files: dict[str, FileRecord]
    signature: Signature
    examples: tuple[Example, ...]
    examples_made_up: bool
    environment: dict[str, str]
    graph: str | None = None
    proof: dict[str, object] = field(default_factory=dict)
    artifact_cost_us: dict[str, float] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    lean: DirectCall | None = None
    trained_with: tuple[str, ...] = ()
    trained_with_source: str = ""
    recorded: str | None = None
    served_by: dict[str, str] = field(default_factory=dict)
    assumptions: tuple[Assumption, ...] = ()
    card: str = ""
    profile: dict[str, object] = field(default_factory=dict)
    explanation: Explanation | None = None
    manifest_version: int = field(default=FORMAT_VERSION)

    @property
    def runtime(self) -> str:
        """The form that serves the version: "graph" if there is a proven one, else "artifact"."""
        return "artifact" if self.graph is None else "graph"


@dataclass(frozen=True, slots=True)
class _Form:
    """The part of a manifest that is read first, because other versions of the manifest may have other fields."""

    manifest_version: int


def encode(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON, which people and version control can read."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and its SHA-256 into a version's folder."""
    content = encode(manifest)
    write_synced(folder / MANIFEST, content)
    write_synced(folder / MANIFEST_SHA256, f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n".encode())


def digest(folder: Path) -> str:
    """Return the SHA-256 of the manifest, which covers all files of the version, because it lists their hashes."""
    return hashlib.sha256(_content(folder)).hexdigest()


def read(folder: Path) -> Manifest:
    """Read the manifest in the folder of a version.

    Older releases wrote no `manifest.sha256`; without it the manifest is not compared.

    Raises:
        InvalidRepository: The manifest is missing, was changed, is not JSON, or lacks a field.
    """
    content = _content(folder)
    recorded, actual = _read_optional(folder / MANIFEST_SHA256), hashlib.sha256(content).hexdigest()
    if recorded is not None and recorded.split()[:1] != [actual.encode()]:
        was = recorded[:12].decode("ascii", "replace")
        raise InvalidRepository(f"{MANIFEST} is damaged or was replaced: its SHA-256 is {actual[:12]}…, not {was}…")
    try:
        form = msgspec.json.decode(content, type=_Form).manifest_version
        if form != FORMAT_VERSION:
            raise InvalidRepository(f"{MANIFEST} has form {form}; this release of Retort reads form {FORMAT_VERSION}")
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRepository(f"{MANIFEST} cannot be read: {error}") from None


def _content(folder: Path) -> bytes:
    content = _read_optional(folder / MANIFEST)
    if content is None:
        raise InvalidRepository(f"there is no {MANIFEST}")
    return content


def _read_optional(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidRepository(f"{path.name} cannot be read: {error}") from None


def write_recorded(folder: Path, recorded: Recorded) -> None:
    """Write the rows beside the artifact. The same rows always have the same bytes."""
    (folder / RECORDED).write_bytes(gzip.compress(msgspec.json.encode(recorded), 6, mtime=0))


def read_recorded(stream: BinaryIO) -> Recorded:
    """Read the rows from an open, verified file of `write_recorded`."""
    try:
        with gzip.GzipFile(fileobj=stream) as content:
            recorded = msgspec.json.decode(content.read(MAX_RECORDED_BYTES), type=Recorded)
    except (OSError, EOFError, ValueError, msgspec.DecodeError) as error:
        raise InvalidRepository(f"{RECORDED} cannot be read: {error}") from None
    if any(len(values) != len(recorded.instances) for values in recorded.outputs.values()):
        raise InvalidRepository(f"{RECORDED} does not have one value of each output for each instance")
    return recorded
