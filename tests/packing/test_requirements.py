"""The requirements of an environment like a training environment."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from app.packing.trained_with import Training, requirements_of

pytestmark = pytest.mark.slow


def requirement(training: Training, library: str) -> str:
    [found] = [one for one in requirements_of(training) if one.startswith(library)]
    return found


def of(release: str, *modules: str) -> Training:
    return Training({"scikit-learn": f"=={release}"}, "the artifact", frozenset(modules))


@pytest.mark.parametrize(
    ("training", "numpy"),
    [
        (of("1.2.2"), "numpy<2"),
        (of("1.4.2"), "numpy<2"),
        (of("1.4.2", "numpy._core.multiarray"), "numpy>=2"),
        (of("1.5.2"), "numpy"),
        (of("1.5.2", "numpy.core.multiarray"), "numpy<2"),
        (of("1.8.0"), "numpy"),
        (Training({"scikit-learn": "==1.5.2", "numpy": "==1.26.0"}, "MLflow"), "numpy==1.26.0"),
    ],
)
def test_numpy_is_as_old_as_the_release_or_the_version_that_the_artifact_names(training: Training, numpy: str) -> None:
    assert requirement(training, "numpy") == numpy


def test_an_old_release_gets_libraries_of_the_same_age() -> None:
    assert requirement(of("1.2.2"), "scipy") == "scipy<1.12"
    assert requirement(of("1.7.2"), "pandas") == "pandas<3"
    assert requirement(of("1.8.0"), "pandas") == "pandas"


def test_onnxruntime_is_the_version_installed_here() -> None:
    assert requirement(of("1.4.2"), "onnxruntime") == f"onnxruntime=={version('onnxruntime')}"


def test_libraries_that_the_artifact_names_are_required() -> None:
    wanted = requirements_of(of("1.4.2", "lightgbm.sklearn", "imblearn.pipeline", "mymodule", "os"))
    assert f"lightgbm=={version('lightgbm')}" in wanted
    assert "imbalanced-learn" in wanted
    assert not any(one.startswith(("mymodule", "os")) for one in wanted)
