"""Artifacts of two older releases of scikit-learn, packed by `add` without options, give their original answers.

Packing makes the environments, in which training runs too. They stay in the user's cache.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from app import create_app
from app.errors import RetortError
from app.packing import start
from app.packing.environments import interpreter_for
from app.packing.spawn import PackRequest, RepackRequest, Result
from app.packing.stages import NoProgress
from app.packing.trained_with import Training
from app.settings import Settings
from app.storage.repository import Repository
from tests.sweep.compare import differences

pytestmark = [pytest.mark.slow, pytest.mark.early]

ROOT = Path(__file__).parents[2]
RELEASES = ("1.2.2", "1.6.1")
MODELS = (
    "GradientBoostingClassifier",
    "HistGradientBoostingRegressor",
    "KNeighborsClassifier",
    "PLSRegression",
    "RandomForestClassifier",
    "logistic_liblinear",
    "penguins_one_hot_ignore",
    "poisson",
    "sgd_log_loss",
    "text_naive_bayes",
)
"""Models that other releases cannot read, or predict differently."""


WITHOUT_GRAPH = ("KNeighborsClassifier", "logistic_liblinear")


class Release:
    """The models that a release trained, and the results of packing them."""

    def __init__(self, number: str, folder: Path) -> None:
        self.version = number
        self.folder = folder
        self.packed: dict[str, Result | RetortError] = {}
        self.packed_without_graph: dict[str, Result | RetortError] = {}

    def train(self) -> None:
        interpreter = interpreter_for(Training({"scikit-learn": f"=={self.version}"}, "a test"), [], None, NoProgress())
        assert interpreter is not None
        command = [interpreter.python, *interpreter.options, "-m", "tests.sweep.training", str(self.folder), *MODELS]
        subprocess.run(command, cwd=ROOT, check=True)

    def pack(self, model: str, graph_limit_bytes: int = 2**30) -> Result | RetortError:
        folder = self.folder / model
        sample = folder / "sample.csv"
        target = "the target" if sample.exists() and b"the target" in sample.read_bytes() else None
        request = PackRequest(
            str(folder / "model.joblib"),
            model,
            str(self.folder / "models"),
            sample=str(sample) if sample.exists() else None,
            target=target,
            graph_limit_bytes=graph_limit_bytes,
        )
        try:
            return start.add(request, 300)
        except RetortError as error:
            return error

    def recorded(self, model: str) -> dict[str, Any]:
        """Return the rows of a model, and the release's answers to them."""
        return msgspec.json.decode((self.folder / model / "answers.json").read_bytes(), type=dict[str, Any])

    def client(self) -> FlaskClient:
        return create_app(Settings(models_dir=self.folder / "models")).test_client()


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Release:
    trained = Release(request.param, tmp_path_factory.mktemp(request.param))
    trained.train()
    with ThreadPoolExecutor(2) as pool:
        trained.packed = dict(zip(MODELS, pool.map(trained.pack, MODELS), strict=True))
        without_graph = pool.map(partial(trained.pack, graph_limit_bytes=0), WITHOUT_GRAPH)
        trained.packed_without_graph = dict(zip(WITHOUT_GRAPH, without_graph, strict=True))
    return trained


@pytest.mark.slow
def test_ten_models_of_an_older_release_give_their_original_answers(release: Release) -> None:
    client = release.client()
    wrong = {}
    for model in MODELS:
        recorded = release.recorded(model)
        assert recorded["scikit-learn"] == release.version
        response = client.post(f"/models/{model}/predict", json={"instances": recorded["rows"]})
        wrong[model] = differences(recorded["answers"], response.get_json())[:3]
    assert {model: found for model, found in wrong.items() if found} == {}


def test_the_verdict_of_each_names_the_release_and_the_graph(release: Release) -> None:
    for model, result in release.packed.items():
        assert isinstance(result, Result), (model, result)
        verdict = result.verdict
        assert verdict is not None
        assert verdict.trained_with == (f"scikit-learn=={release.version}",)
        assert verdict.packed_with["scikit-learn"] == release.version
        assert verdict.served_with["scikit-learn"] != release.version
        assert verdict.runtime == "graph"
        assert verdict.equal_rows > 100


def test_a_model_without_a_graph_is_served_only_if_the_installed_release_answers_equally(release: Release) -> None:
    equal, other = (release.packed_without_graph[model] for model in WITHOUT_GRAPH)
    assert isinstance(other, RetortError)
    here = version("scikit-learn")
    assert f"trained with scikit-learn {release.version} (says the artifact)" in other.detail
    assert f"scikit-learn was {release.version}, is {here}" in other.detail
    if isinstance(equal, RetortError):
        assert f"scikit-learn was {release.version}, is {here}" in equal.detail
    else:
        assert equal.verdict is not None
        assert (equal.verdict.runtime, equal.verdict.served_with["scikit-learn"]) == ("artifact", here)
        assert equal.verdict.equal_rows > 100


@pytest.mark.slow
def test_a_version_is_packed_again_in_the_environment_of_its_release(release: Release) -> None:
    models = str(release.folder / "models")
    name = "penguins_one_hot_ignore"
    result = start.repack(RepackRequest(name, 1, models), 300)
    repository = Repository(release.folder / "models")
    was, now = repository.manifest(name, 1), repository.manifest(name, result.version or 0)
    assert now.version == was.version + 1
    assert now.environment["scikit-learn"] == release.version
    assert (now.runtime, now.trained_with, now.signature) == ("graph", was.trained_with, was.signature)
    assert result.verdict is not None
    assert result.verdict.served_with["scikit-learn"] == version("scikit-learn")
    recorded = release.recorded(name)
    response = release.client().post(f"/models/{name}/predict", json={"instances": recorded["rows"]})
    assert response.get_json()["version"] == now.version
    assert differences(recorded["answers"], response.get_json()) == []
