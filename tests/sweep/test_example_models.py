"""Trained and packed again by their scripts, the example models equal the committed ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.storage.manifest import Manifest
from app.storage.repository import Repository

from .compare import differences

ROOT = Path(__file__).parents[2]
COMMITTED = Repository(ROOT / "examples" / "models")
NAMES = ["diabetes", "digits", "digits-image", "iris-two", "penguins"]

# Labels must be identical. Training is deterministic on one machine; on another the linear algebra may add in another
# order, and a solver stops within its own tolerance.
RETRAINED_REL_TOL = 1e-4

pytestmark = [pytest.mark.sweep, pytest.mark.early]


@pytest.fixture(scope="module")
def repacked(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Return a repository that `examples/pack_examples.py` has just made."""
    built, models = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("models")
    script = ROOT / "examples" / "pack_examples.py"
    run = subprocess.run([sys.executable, script, built, models], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return Repository(models)


def newest(repository: Repository, name: str) -> Manifest:
    return repository.manifest(name, repository.versions(name)[-1])


def test_the_same_models(repacked: Repository) -> None:
    """Both sides have five models, with penguins as the default."""
    assert repacked.models() == COMMITTED.models() == NAMES
    assert repacked.pointers().default == COMMITTED.pointers().default == "penguins"


@pytest.mark.parametrize("name", NAMES)
def test_repacked_models_predict_the_same(name: str, repacked: Repository) -> None:
    """Signature, task, examples and their recorded predictions are equal."""
    committed, again = newest(COMMITTED, name), newest(repacked, name)
    assert again.signature == committed.signature
    assert (again.task, again.estimator, again.examples_made_up) == (
        committed.task,
        committed.estimator,
        committed.examples_made_up,
    )
    assert [example.instance for example in again.examples] == [example.instance for example in committed.examples]
    for position, (before, after) in enumerate(zip(committed.examples, again.examples, strict=True)):
        place = f"example {position}"
        assert differences(before.outputs, after.outputs, place, rel_tol=RETRAINED_REL_TOL) == []


@pytest.mark.parametrize("name", NAMES)
def test_pins_and_pickles_match(name: str) -> None:
    """The committed artifact was made with the versions that requirements.txt installs."""
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    pins = {library.lower(): version for library, version in pins.items()}
    recorded = {library: version for library, version in newest(COMMITTED, name).environment.items() if library in pins}
    assert {"scikit-learn", "numpy", "joblib"} <= set(recorded)
    assert recorded == {library: pins[library] for library in recorded}
