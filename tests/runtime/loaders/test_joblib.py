"""Joblib and pickle files are read, or refused with a reason."""

from __future__ import annotations

import importlib.util
import io
import pickle
import sys
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import LinearRegression

from app.errors import LoadingFailed
from app.runtime.loaders import LOADERS
from app.runtime.loaders import read_joblib as read
from app.runtime.servable import ArtifactServable
from app.signature.batch import Batch
from tests.runtime.estimators import SIGNATURE

MODEL = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])


class Exits:
    """End the process that unpickles it."""

    def __reduce__(self) -> Any:
        return SystemExit, ("bye",)


class Raising:
    """Raise when it is unpickled."""

    def __init__(self, error: str, *arguments: object) -> None:
        self.error, self.arguments = error, arguments

    def __reduce__(self) -> Any:
        return exec, (f"raise {self.error}",)


def dumped(model: object = MODEL, **options: Any) -> bytes:
    stream = io.BytesIO()
    joblib.dump(model, stream, **options)
    return stream.getvalue()


def refusal(content: bytes) -> str:
    with pytest.raises(LoadingFailed) as caught:
        read(io.BytesIO(content))
    return caught.value.detail


@pytest.mark.parametrize(
    "content",
    [dumped(), dumped(compress=3), pickle.dumps(MODEL), pickle.dumps(MODEL, protocol=0)],
    ids=["joblib", "compressed", "pickle", "pickle 0"],
)
def test_joblib_and_pickle_files_are_read(content: bytes) -> None:
    stream = io.BytesIO(content)
    model = read(stream)
    assert model.predict([[2.0]]).tolist() == MODEL.predict([[2.0]]).tolist()
    assert not stream.closed


def test_a_loaded_model_answers_batches() -> None:
    servable = LOADERS["joblib"](io.BytesIO(dumped()), SIGNATURE)
    outputs = servable.run(Batch({"x": np.array([2.0, 3.0])}, 2), ["prediction"])
    assert outputs["prediction"].tolist() == MODEL.predict([[2.0], [3.0]]).tolist()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x80\x04", dumped()[:-20], dumped(compress=3)[:-20], b"PK\x03\x04", b"\x00" * 100, b"a,b\n1,2\n"],
    ids=["empty", "text", "begun", "truncated", "truncated compressed", "zip", "zeros", "csv"],
)
def test_other_files_are_refused(content: bytes) -> None:
    assert refusal(content).startswith("it is not a readable joblib or pickle file (")


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("no_such_library", "no_such_library"),
        ("no_such_library.models.deep", "no_such_library"),
        ("PIL.Image", "pillow"),
    ],
)
def test_a_library_that_is_not_installed_is_named(module: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    message = refusal(f"c{module}\nModel\n.".encode())
    assert message.startswith(f"it needs {library}, which is not installed")
    assert ("a module of your own" in message) is (library == "no_such_library")
    assert message.endswith(": pip install pillow") is (library == "pillow")


def test_a_module_that_an_installed_library_no_longer_has_is_named() -> None:
    message = refusal(b"csklearn.ensemble.gradient_boosting\nGradientBoostingClassifier\n.")
    assert "sklearn.ensemble.gradient_boosting" in message
    assert "not installed" not in message


def test_a_name_that_an_installed_library_no_longer_has_is_named() -> None:
    message = refusal(b"csklearn.linear_model\nNoSuchRegression\n.")
    assert message.startswith("it needs something that the installed libraries do not have (")
    assert "NoSuchRegression" in message


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x80\x04\x8c\x08__main__\x8c\x08MyScaler\x93.", "MyScaler"),
        (b"\x80\x04\x8c\x08__main__\x8c\x0bSteps.Scale\x93.", "Steps.Scale"),
        (b"c__main__\nMyScaler\n.", "MyScaler"),
    ],
    ids=["class", "class within a class", "pickled by an old protocol"],
)
def test_a_class_of_a_notebook_is_refused_with_advice(
    content: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `python -m` runs a module of packing under its full name, as here.
    spec = importlib.util.find_spec("app.packing.__main__")
    assert spec is not None
    program = importlib.util.module_from_spec(spec)
    program.__name__ = "__main__"
    monkeypatch.setitem(sys.modules, "__main__", program)
    assert refusal(content) == (
        f"it uses {name!r}, which was defined in a notebook or script: move it into a module that can be imported "
        "here, and save the model again"
    )


def test_a_pickle_that_exits_is_refused() -> None:
    # The first pickle only makes a SystemExit; the second raises it.
    assert isinstance(read(io.BytesIO(pickle.dumps(Exits()))), SystemExit)
    message = refusal(pickle.dumps(Raising("SystemExit('bye')")))
    assert message == "it is not a readable joblib or pickle file (SystemExit: bye)"


@pytest.mark.parametrize("error", ["ValueError('no')", "MemoryError()", "RecursionError()", "ImportError('half')"])
def test_a_pickle_that_raises_is_refused(error: str) -> None:
    assert error.partition("(")[0] in refusal(pickle.dumps(Raising(error)))


def test_an_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        read(io.BytesIO(pickle.dumps(Raising("KeyboardInterrupt"))))


def test_another_version_of_scikit_learn_warns_at_packing_and_not_at_serving() -> None:
    version = sklearn.__version__.encode()
    content = pickle.dumps(MODEL)
    assert version in content
    older = content.replace(version, b"0" * len(version))
    with pytest.warns(InconsistentVersionWarning):
        read(io.BytesIO(older))
    servable = LOADERS["joblib"](io.BytesIO(older), SIGNATURE)
    assert isinstance(servable, ArtifactServable)
    assert servable.estimator.coef_ == pytest.approx(np.array([2.0]))
