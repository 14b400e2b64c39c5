"""`pack` in a notebook does the same as `flask models add`, with the same messages."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelEncoder, StandardScaler

from app import PackedVersion, PackingRefused, Settings, create_app, pack
from app.packing import sample, spawn
from app.packing.__main__ import run
from app.storage.repository import Repository
from tests.end_to_end.process import ROOT, environment
from tests.packing.artifacts import saved

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]  # packing ignores warnings in its own process

FRAME = pd.DataFrame({"length": [1.0, 2.0, 3.0, 4.0], "width": [1, 3, 2, 4], "kind": ["a", "b", "a", "b"]})
INPUTS = FRAME[["length", "width"]]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty current folder, and let packing run in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(spawn, "run", in_this_process)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)
    assert [*(tmp_path / "temporary").iterdir()] == [], "a temporary file is left"


def in_this_process(request: spawn.Request, timeout_s: float, progress: Any = None) -> spawn.Result:
    return run(spawn.verb_of(request), msgspec.json.encode(request).decode())


def test_a_frame_may_have_several_targets(place: Path) -> None:
    fitted = LinearRegression().fit(INPUTS, INPUTS * 2)
    frame = INPUTS.assign(area=1.0, weight=2.0)
    packed = pack(fitted, "two", frame, target=["area", "weight"])
    assert [spec.name for spec in Repository(place / "models").manifest("two", 1).signature.inputs] == [*INPUTS]
    assert packed.verdict is not None
    assert packed.verdict.agreement is None


def two() -> LogisticRegression:
    return LogisticRegression().fit(INPUTS, FRAME["kind"])


def test_an_estimator_and_a_frame_become_a_version(place: Path) -> None:
    packed = pack(two(), "two", FRAME, target="kind", default=True)
    assert isinstance(packed, PackedVersion)
    assert (packed.name, packed.version, packed.runtime) == ("two", 1, "graph")
    assert packed.path == place / "models" / "two" / "1"
    assert packed.proof["proven"] is True
    assert packed.verdict is not None
    assert packed.verdict.agreement is not None
    assert packed.verdict.trained_with[0].startswith("scikit-learn==")
    repository = Repository(place / "models")
    assert repository.pointers().default == "two"
    kinds = [
        (spec.name, spec.kind, spec.minimum, spec.maximum) for spec in repository.manifest("two", 1).signature.inputs
    ]
    assert kinds == [("length", "number", 1, 4), ("width", "integer", 1, 4)]


def test_a_notebook_shows_what_the_command_prints(place: Path) -> None:
    FRAME.to_csv("sample.csv", index=False)
    file = saved(two(), place / "two.joblib")
    packed = pack(file, "two", Path("sample.csv"), target="kind", models_dir="mine")
    command = ["models", "add", str(file), "--name", "two", "--sample", "sample.csv", "--target", "kind"]
    printed = create_app(Settings(models_dir=place / "theirs")).test_cli_runner().invoke(args=command).stdout
    shown = repr(packed).splitlines()
    assert shown.pop() == f"  stored in: {place / 'mine' / 'two' / '1'}"
    assert without_times(printed)[: len(shown)] == without_times("\n".join(shown))


def without_times(text: str) -> list[str]:
    return [line.partition("; one row takes")[0] for line in text.splitlines()]


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"name": "no name"}, ["--name", "no name"]),
        ({"name": "two", "sample": "none.csv"}, ["--name", "two", "--sample", "none.csv"]),
        (
            {"name": "two", "sample": "sample.csv", "target": "x"},
            ["--name", "two", "--sample", "sample.csv", "--target", "x"],
        ),
        ({"name": "two", "card": "none.md"}, ["--name", "two", "--card", "none.md"]),
        ({"name": "two", "trained_with": "numpy"}, ["--name", "two", "--trained-with", "numpy"]),
    ],
    ids=["name", "sample", "target", "card", "trained_with"],
)
def test_a_refusal_is_the_sentence_of_the_command(place: Path, options: Any, arguments: list[str]) -> None:
    FRAME.to_csv("sample.csv", index=False)
    file = saved(two(), place / "two.joblib")
    with pytest.raises(PackingRefused) as refused:
        pack(file, **options)
    result = create_app(Settings()).test_cli_runner().invoke(args=["models", "add", str(file), *arguments])
    assert result.stderr == f"Error: {refused.value}\n"
    assert result.exit_code == 1


def test_a_step_that_the_module_has_not_is_refused(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    Path("own_steps_of_a_test.py").write_text("from app import step\n\n@step('scale')\ndef scale(outputs): ...\n")
    monkeypatch.setenv("RETORT_STEPS", "own_steps_of_a_test")
    monkeypatch.syspath_prepend(str(place))
    with pytest.raises(PackingRefused, match=r"^own_steps_of_a_test has no step 'shout'; there are: scale$"):
        pack(two(), "two", after=["shout"])


def test_several_files_make_one_model(place: Path) -> None:
    scaler = StandardScaler().fit(INPUTS)
    model = LogisticRegression().fit(scaler.transform(INPUTS), FRAME["kind"])
    files = [saved(scaler, place / "scaler.joblib"), saved(model, place / "model.joblib")]
    packed = pack(files, "two", INPUTS)
    assert "classifier: Pipeline(StandardScaler, LogisticRegression)" in packed.remarks[0]


def test_an_array_is_a_sample() -> None:
    packed = pack(LinearRegression().fit(INPUTS.to_numpy(), [1, 2, 3, 4]), "line", INPUTS.to_numpy())
    assert "input feature1: number, 1 to 4 seen" in packed.remarks


def test_a_frame_beside_a_file_keeps_its_dtypes(place: Path) -> None:
    small = INPUTS.astype("float32")
    file = saved(LinearRegression().fit(small, [1, 2, 3, 4]), place / "line.joblib")
    pack(file, "line", small)
    signature = Repository(place / "models").manifest("line", 1).signature
    assert [spec.dtype for spec in signature.inputs] == ["float32", "float32"]


def test_a_frame_is_read_as_it_was(place: Path) -> None:
    frame = pd.DataFrame(
        {
            "when": pd.to_datetime(["2026-01-01", "2026-01-02"]).as_unit("s"),
            "small": np.array([1, 2], "int8"),
            "kind": pd.Categorical(["a", "b"]),
            "words": np.array(["x", None], object),
            7: [0.1 + 0.2, 1 / 3],
        }
    )
    frame.to_pickle("frame")
    read = sample.read_frame(Path("frame"), "kind")
    expected = frame.rename(columns={7: "7"})
    pd.testing.assert_frame_equal(read.frame, expected.drop(columns="kind"))
    assert read.target is not None
    pd.testing.assert_series_equal(read.target, expected["kind"])


@pytest.mark.parametrize(
    ("estimator", "options", "sentence"),
    [
        (make_pipeline(FunctionTransformer(lambda rows: rows), LinearRegression()), {}, "cannot be saved .*lambda"),
        (LinearRegression(), {}, "this LinearRegression is not fitted"),
        (LabelEncoder, {}, "the class LabelEncoder"),
        (two(), {"sample": FRAME, "target": "x"}, "^the sample has no target column 'x'; it has: length, width, kind$"),
        (two(), {"sample": FRAME.head(0)}, "^the sample has no rows$"),
        (two(), {"sample": {"length": [1.0]}}, "^the sample is a dict; it must be a frame, an array or a path$"),
        (two(), {"trained_with": "numpy<2"}, "^trained_with and python are for files"),
    ],
    ids=["lambda", "not fitted", "class", "target", "no rows", "dict", "trained_with"],
)
def test_a_refusal_names_no_temporary_file(estimator: object, options: Any, sentence: str) -> None:
    with pytest.raises(PackingRefused, match=sentence) as refused:
        pack(estimator, "two", **options)
    assert "temporary" not in str(refused.value)
    assert " at 0x" not in str(refused.value)


SCRIPT = """
import numpy as np
from app import PackingRefused, pack
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

def double(rows):
    return rows * 2

model = make_pipeline(FunctionTransformer(double), LinearRegression()).fit(np.array([[1.0], [2.0]]), [1, 2])
try:
    pack(model, "line")
except PackingRefused as error:
    print(error)
"""


def test_a_function_of_the_notebook_is_named(place: Path) -> None:
    """Pack in a real process: this one has the function."""
    variables = environment(PYTHONPATH=ROOT)
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=place, env=variables, capture_output=True, text=True, check=True
    )
    assert ran.stdout == (
        "the estimator cannot be loaded: it uses 'double', which was defined in a notebook or script: "
        "move it into a module that can be imported here, and save the model again\n"
    )
    assert ran.stderr == ""
