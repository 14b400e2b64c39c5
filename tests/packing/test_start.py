"""The Python that packs, and the facts of the training environment that it gets."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression

from app.errors import InvalidRepository, PackingRefused
from app.packing import environments, spawn, start
from app.packing.spawn import Interpreter, PackRequest, RepackRequest, Request, Result
from app.packing.start import training_of
from app.packing.trained_with import Training
from app.packing.write import pack
from app.storage.manifest import Manifest
from app.storage.repository import Repository
from tests.packing.artifacts import saved

HERE = version("scikit-learn")


class Runs:
    """Record the requests and the training environments instead of starting processes."""

    def __init__(self, interpreter: Interpreter | None) -> None:
        self.interpreter = interpreter
        self.asked: list[tuple[Request, Interpreter | None]] = []
        self.wanted: list[tuple[Training, str | None]] = []
        self.files: list[str] = []
        self.refused: str | None = None

    def run(
        self, request: Request, timeout_s: float, progress: Any = None, interpreter: Interpreter | None = None
    ) -> Result:
        self.asked.append((request, interpreter))
        if self.refused is not None:
            raise PackingRefused(self.refused)
        return Result(version=2)

    def interpreter_for(self, training: Training, files: Any, own: str | None, progress: Any) -> Interpreter | None:
        self.wanted.append((training, own))
        self.files = list(files)
        return self.interpreter


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs(Interpreter("train/bin/python"))
    monkeypatch.setattr(spawn, "run", runs.run)
    monkeypatch.setattr(environments, "interpreter_for", runs.interpreter_for)
    return runs


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with one version of one model, `m`."""
    folder = tmp_path_factory.mktemp("models")
    artifact = saved(LogisticRegression().fit([[0.0], [4.0]], [0, 1]), folder / "model.joblib")
    pack(PackRequest(str(artifact), "m", str(folder / "models")))
    return folder / "models"


def stored(models: Path, **facts: Any) -> tuple[Manifest, Path]:
    repository = Repository(models)
    manifest = repository.manifest("m", 1)
    return replace(manifest, **facts), repository.folder("m", 1) / manifest.artifact


@pytest.mark.slow
def test_a_version_is_packed_again_in_its_training_environment(models: Path, runs: Runs) -> None:
    request = RepackRequest("m", 1, str(models))
    assert start.repack(request, 60).version == 2
    assert runs.asked == [
        (
            replace(
                request,
                trained_with=(f"scikit-learn=={HERE}",),
                trained_with_source="the artifact",
                served_by=sys.executable,
            ),
            Interpreter("train/bin/python"),
        )
    ]


def test_this_python_packs_if_it_has_the_training_environment(models: Path, runs: Runs) -> None:
    runs.interpreter = None
    start.repack(RepackRequest("m", 1, str(models)), 60)
    [(request, interpreter)] = runs.asked
    assert isinstance(request, RepackRequest)
    assert (request.served_by, interpreter) == (None, None)


def test_a_damaged_version_is_refused_before_an_environment_is_made(models: Path, runs: Runs, tmp_path: Path) -> None:
    for name in ("manifest.json", "model.joblib"):
        place = tmp_path / "models" / "m" / "1" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((models / "m" / "1" / name).read_bytes())
    with pytest.raises(InvalidRepository):
        start.repack(RepackRequest("m", 1, str(tmp_path / "models")), 60)
    assert (runs.wanted, runs.asked) == ([], [])


def test_the_python_of_the_user_packs(models: Path, runs: Runs) -> None:
    start.repack(RepackRequest("m", 1, str(models)), 60, python="mine/bin/python")
    assert [own for _, own in runs.wanted] == ["mine/bin/python"]


def test_the_recorded_training_environment_overrides_the_artifact(models: Path) -> None:
    manifest, artifact = stored(models, trained_with=("scikit-learn==1.4.2", "numpy>=1.22,<2"), trained_with_source="X")
    training = training_of(manifest, artifact)
    assert training.requirements == {"scikit-learn": "==1.4.2", "numpy": ">=1.22,<2"}
    assert training.source == "X"
    assert "sklearn.linear_model._logistic" in training.modules


def test_the_option_of_the_user_overrides_the_record(models: Path) -> None:
    manifest, artifact = stored(models, trained_with=("scikit-learn==1.4.2",), trained_with_source="X")
    training = training_of(manifest, artifact, "scikit-learn==1.5.2")
    assert (training.requirements, training.source) == ({"scikit-learn": "==1.5.2"}, "--trained-with")


def test_a_version_packed_by_another_python_was_trained_with_its_libraries(models: Path) -> None:
    used = {"python": "3.11.7", "scikit-learn": "1.4.2", "numpy": "1.26.4", "onnxruntime": "1.30.0"}
    manifest, artifact = stored(models, environment=used, served_by={"numpy": "2.4.6"})
    assert training_of(manifest, artifact).requirements == {"scikit-learn": "==1.4.2", "numpy": "==1.26.4"}


def test_a_version_without_a_record_is_read_from_the_artifact(models: Path) -> None:
    manifest, artifact = stored(models)
    assert training_of(manifest, artifact).requirements == {"scikit-learn": f"=={HERE}"}


def test_an_environment_is_made_for_the_file_in_a_folder(tmp_path: Path, runs: Runs) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").write_text('{"sklearn": {"model": {"file": "model.skops"}}}')
    model, rows = tmp_path / "hub" / "model.skops", tmp_path / "rows.parquet"
    model.touch()
    rows.touch()
    start.add(PackRequest(str(tmp_path / "hub"), "m", str(tmp_path / "models"), sample=str(rows)), 60)
    assert runs.files == [str(model), str(rows)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no.joblib", {}, "{}/no.joblib cannot be read: No such file or directory"),
        ("a.joblib", {"beside": ("no.pkl",)}, "no.pkl cannot be read: No such file or directory"),
        ("a.joblib", {"sample": "no.csv"}, "sample no.csv cannot be read: No such file or directory"),
        ("a.joblib", {"inputs": "no.json"}, "no.json cannot be read: No such file or directory"),
        ("a.joblib", {"card": "no.md"}, "the card no.md cannot be read: No such file or directory"),
    ],
)
def test_a_missing_file_is_refused_before_a_process_starts(
    tmp_path: Path, runs: Runs, name: str, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "a.joblib").touch()
    with pytest.raises(PackingRefused) as caught:
        start.add(PackRequest(str(tmp_path / name), "m", str(tmp_path / "models"), **options), 60)
    assert caught.value.detail == message.format(tmp_path)
    assert runs.files == []


def test_a_name_that_cannot_stand_in_a_url_is_refused_before_a_process_starts(tmp_path: Path, runs: Runs) -> None:
    with pytest.raises(PackingRefused, match="name 'my model' cannot stand in a URL"):
        start.add(PackRequest(str(tmp_path / "a.joblib"), "my model", str(tmp_path / "models")), 60)
    assert runs.files == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "it fails",
            f"it fails; it was trained with scikit-learn 1.4.2 (says X), and {HERE} of scikit-learn is installed",
        ),
        (f"it was 1.4.2, and {HERE} fails", f"it was 1.4.2, and {HERE} fails"),
    ],
)
def test_a_refusal_of_another_python_names_both_versions(models: Path, runs: Runs, message: str, expected: str) -> None:
    runs.refused = message
    with pytest.raises(PackingRefused) as caught:
        start.repack(RepackRequest("m", 1, str(models)), 60, trained_with="scikit-learn==1.4.2")
    assert caught.value.detail == expected.replace("(says X)", "(says --trained-with)")
