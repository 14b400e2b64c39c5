"""The training environment is found in an artifact and its folder; invalid versions are refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.errors import PackingRefused
from app.packing.trained_with import find
from tests.packing.artifacts import saved
from tests.skops_files import skops_dump

TWO = make_pipeline(StandardScaler(), LogisticRegression()).fit([[0.0, 1.0], [4.0, 5.0]], [0, 1])
HERE = sklearn.__version__


def named_version(path: Path, *versions: str) -> Path:
    path.write_bytes(pickle.dumps([{"_sklearn_version": version} for version in versions]))
    return path


def test_the_version_and_the_modules_of_a_pickle_are_found(tmp_path: Path) -> None:
    training = find(saved(TWO, tmp_path / "model.joblib"))
    assert (training.requirements, training.source) == ({"scikit-learn": f"=={HERE}"}, "the artifact")
    assert "sklearn.pipeline" in training.modules
    assert training.shown() == f"scikit-learn {HERE}"


@pytest.mark.slow
def test_the_version_and_the_modules_of_a_skops_file_are_found(tmp_path: Path) -> None:
    skops_dump(TWO, tmp_path / "model.skops")
    training = find(tmp_path / "model.skops")
    assert training.requirements == {"scikit-learn": f"=={HERE}"}
    assert "sklearn.pipeline" in training.modules


def test_an_artifact_without_a_version_has_no_known_environment(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "a.txt").write_text("hello")
    for name in ("a.pkl", "a.txt", "missing.pkl", "."):
        assert find(tmp_path / name).requirements == {}


def test_the_outermost_of_several_versions_is_used_with_a_remark(tmp_path: Path) -> None:
    training = find(named_version(tmp_path / "a.pkl", "1.4.2", "1.2.2"))
    assert training.requirements == {"scikit-learn": "==1.2.2"}
    assert training.remarks == (
        "its parts were saved with scikit-learn 1.4.2 and 1.2.2; 1.2.2, the version of the outermost part, is used",
    )


@pytest.mark.parametrize("version", ["", "latest", "1.4.2 --index-url http://x", "1.4.2; os_name", "../../x", "-r x"])
def test_a_text_that_is_not_a_version_is_not_passed_to_pip(tmp_path: Path, version: str) -> None:
    path = named_version(tmp_path / "a.pkl", version)
    with pytest.raises(PackingRefused, match="which is not a version; if you know the right one"):
        find(path)
    assert find(path, "scikit-learn==1.4.2").requirements == {"scikit-learn": "==1.4.2"}


@pytest.mark.parametrize("version", ["1.4.2", "1.5.0rc1", "1.6.dev0", "1.7.2.post1"])
def test_releases_and_prereleases_are_versions(tmp_path: Path, version: str) -> None:
    path = named_version(tmp_path / "a.pkl", version)
    assert find(path).requirements["scikit-learn"].startswith(f"=={version[:3]}")


def test_the_requirements_of_mlflow_complete_those_of_the_artifact(tmp_path: Path) -> None:
    path = named_version(tmp_path / "model.pkl", "1.2.2")
    (tmp_path / "requirements.txt").write_text(
        "mlflow==2.9\nnumpy==1.24.3  # by hand\nscikit-learn==1.2.1\npandas<2,>=1.5\n-r other.txt\n"
        "scipy @ https://example.invalid/scipy.whl\npsutil==5.9.0\n!!\n"
    )
    assert find(path).requirements == {
        "scikit-learn": "==1.2.2"
    }  # the file that lies beside it elsewhere, MLmodel, is missing
    (tmp_path / "MLmodel").touch()
    training = find(path)
    assert list(training.requirements) == ["scikit-learn", "numpy", "pandas"]
    assert training.requirements["scikit-learn"] == "==1.2.2"
    assert training.requirements["numpy"] == "==1.24.3"
    assert training.source == "the artifact and the requirements.txt of MLflow beside it"


def test_declared_requirements_take_precedence(tmp_path: Path) -> None:
    path = named_version(tmp_path / "model.pkl", "1.2.2")
    training = find(path, "scikit-learn==1.4.2, numpy>=1.26,<2")
    assert training.requirements == {"scikit-learn": "==1.4.2", "numpy": ">=1.26,<2"}
    assert training.source == "--trained-with"
    assert training.shown() == "scikit-learn 1.4.2, numpy >=1.26,<2"
    assert find(path, "numpy<2").source == "the artifact and --trained-with"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("scikit-learn", "'scikit-learn' names no version, as in scikit-learn==1.4.2"),
        ("scikit-learn=1.4.2", "'scikit-learn=1.4.2' is not a library with a version"),
        ("scikit-learn @ https://example.invalid/x.whl", "is not a library with a version"),
        ("--index-url=https://example.invalid", "is not a library with a version"),
        ("<2", "'<2' is not a library with a version"),
    ],
)
def test_a_declaration_that_is_not_requirements_is_refused(tmp_path: Path, message: str, why: str) -> None:
    with pytest.raises(PackingRefused) as caught:
        find(tmp_path / "model.pkl", message)
    assert why in caught.value.detail
    assert caught.value.detail.startswith(f"--trained-with {message!r}: ")
