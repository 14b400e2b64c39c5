"""Files of skops: only trusted types are built."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from app.errors import LoadingFailed
from app.runtime.loaders import LOADERS
from app.runtime.loaders import read_skops as read
from app.signature.batch import Batch
from tests.runtime.estimators import SIGNATURE, Doubles
from tests.skops_files import skops_dumps

pytestmark = pytest.mark.slow

MODEL = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])


def refusal(content: bytes) -> str:
    with pytest.raises(LoadingFailed) as caught:
        read(io.BytesIO(content))
    return caught.value.detail


def test_a_model_of_trusted_types_is_read() -> None:
    stream = io.BytesIO(skops_dumps(MODEL))
    assert read(stream).predict([[2.0]]).tolist() == MODEL.predict([[2.0]]).tolist()
    assert not stream.closed


def test_a_loaded_model_answers_batches() -> None:
    outputs = LOADERS["skops"](io.BytesIO(skops_dumps(MODEL)), SIGNATURE).run(
        Batch({"x": np.array([2.0])}, 1), ["prediction"]
    )
    assert outputs["prediction"].tolist() == MODEL.predict([[2.0]]).tolist()


@pytest.mark.fault("M05")
def test_types_that_are_not_trusted_are_named() -> None:
    assert refusal(skops_dumps(Doubles())) == ("it holds types that are not trusted: tests.runtime.estimators.Doubles")


@pytest.mark.parametrize(
    "content_of",
    [lambda: b"", lambda: b"hello", lambda: pickle.dumps(MODEL), lambda: skops_dumps(MODEL)[:-30]],
    ids=["empty", "text", "pickle", "truncated"],
)
@pytest.mark.fault("M05")
def test_other_files_are_refused(content_of: Callable[[], bytes]) -> None:
    assert refusal(content_of()).startswith("it is not a readable skops file (")


def test_without_skops_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = skops_dumps(MODEL)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    assert refusal(content) == ("it needs skops, which is not installed: pip install skops")
