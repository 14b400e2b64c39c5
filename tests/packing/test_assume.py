"""Values reach the model as in training: dtypes and markers are known, found by answers, or assumed and reported."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from flask.testing import FlaskClient
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVR, LinearSVR

from app import create_app
from app.packing import spawn
from app.packing.write import pack
from app.runtime.proving import same
from app.settings import Settings
from app.signature import Input
from app.storage.manifest import Manifest
from app.storage.repository import Repository
from tests.packing.artifacts import saved

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROWS = 48
RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.normal(size=ROWS)
WORDS = [["red", "green", "blue"][row % 3] for row in range(ROWS)]
TARGET = NUMBERS + np.arange(ROWS) % 3 + 5.0 * (np.arange(ROWS) % 4 == 3)
TIMES = pd.Series(pd.date_range("2024-01-01", periods=ROWS, freq="7h"))


class Workspace:
    """A folder with a repository: `flask models add` packs a model there, and requests are sent over HTTP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = create_app(Settings(models_dir=folder / "models"))  # it reads the repository when it is first asked

    def add(
        self,
        model: Any,
        sample: pd.DataFrame | None = None,
        suffix: str = ".csv",
        *,
        inputs: list[dict[str, Any]] | None = None,
        target: str | None = None,
    ) -> str:
        """Run `flask models add`, and return its output."""
        words = ["models", "add", str(saved(model, self.folder / "model.joblib")), "--name", "m"]
        if sample is not None:
            path = self.folder / f"sample{suffix}"
            {".csv": lambda: sample.to_csv(path, index=False), ".parquet": lambda: sample.to_parquet(path)}[suffix]()
            words += ["--sample", str(path)]
        if inputs is not None:
            (self.folder / "inputs.json").write_text(json.dumps(inputs))
            words += ["--inputs", str(self.folder / "inputs.json")]
        words += [] if target is None else ["--target", target]
        result: Result = self.app.test_cli_runner().invoke(args=words)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    @property
    def manifest(self) -> Manifest:
        repository = Repository(self.folder / "models")
        return repository.manifest("m", repository.versions("m")[-1])

    def input(self, name: str) -> Input:
        return next(spec for spec in self.manifest.signature.inputs if spec.name == name)

    def answers(self, frame: pd.DataFrame) -> dict[str, list[Any]]:
        """Return the predictions for a frame sent as JSON, as CSV and as Parquet."""
        client = self.app.test_client()
        found = {"json": _predictions(client, json.dumps(records(frame)), "application/json")}
        found["csv"] = _predictions(client, frame.to_csv(index=False), "text/csv; header=present")
        content = io.BytesIO()
        frame.to_parquet(content)
        found["parquet"] = _predictions(client, content.getvalue(), "application/vnd.apache.parquet")
        return found

    def assert_equal(self, model: Any, frame: pd.DataFrame) -> None:
        """Check that the served predictions equal the model's predictions for the frame."""
        wanted = np.asarray(model.predict(frame)).tolist()
        for form, got in self.answers(frame).items():
            assert same(wanted, got), form


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {name: [_json(value) for value in frame[name].astype(object)] for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _json(value: Any) -> Any:
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return float(str(value)) if isinstance(value, np.floating) else getattr(value, "item", lambda: value)()


def _predictions(client: FlaskClient, body: Any, media_type: str) -> list[Any]:
    response = client.post("/models/m/predict", data=body, content_type=media_type)
    assert response.status_code == 200, response.get_data(as_text=True)
    found = response.get_json()
    return list(found["prediction"] if "prediction" in found else found["predictions"])


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(spawn, "run", lambda request, *_: pack(request))
    return Workspace(tmp_path)


def with_missing_words(marker: Any, dtype: Any) -> pd.DataFrame:
    """Return words, a quarter of them missing, and numbers."""
    words = pd.Series([marker if row % 4 == 3 else word for row, word in enumerate(WORDS)], dtype=dtype)
    return pd.DataFrame({"word": words, "number": NUMBERS})


ENCODERS = [
    OneHotEncoder(handle_unknown="ignore"),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-7, encoded_missing_value=-9),
    TargetEncoder(),
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: type(encoder).__name__)
@pytest.mark.parametrize(
    ("marker", "dtype"),
    [(None, object), (np.nan, object), (np.nan, "str"), (None, "category")],
    ids=["None", "NaN", "str", "category"],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", None])
def test_a_missing_category_becomes_the_marker_that_the_encoder_learned(
    workspace: Workspace, encoder: Any, marker: Any, dtype: Any, suffix: str | None
) -> None:
    frame = with_missing_words(marker, dtype)
    columns = ColumnTransformer([("words", clone(encoder), ["word"])], remainder="passthrough")
    model = make_pipeline(columns, LinearRegression()).fit(frame, TARGET)
    printed = workspace.add(model, None if suffix is None else frame, suffix or "")
    workspace.assert_equal(model, frame)
    assert "None from NaN" not in printed


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: type(encoder).__name__)
def test_an_encoder_alone_fitted_on_objects_gets_its_marker(workspace: Workspace, encoder: Any) -> None:
    frame = with_missing_words(None, object)[["word"]]
    model = make_pipeline(clone(encoder), LinearRegression()).fit(frame, TARGET)
    workspace.add(model, frame)
    workspace.assert_equal(model, frame)


@pytest.mark.parametrize("values", [[1, 2, None], [True, False, None], [0.5, 1.5, None]], ids=str)
def test_numbers_and_booleans_beside_none_stay_objects(workspace: Workspace, values: list[Any]) -> None:
    frame = pd.DataFrame({"code": pd.Series(values * 16, dtype=object), "number": NUMBERS})
    columns = ColumnTransformer([("codes", OneHotEncoder(), ["code"])], remainder="passthrough")
    model = make_pipeline(columns, LinearRegression()).fit(frame, TARGET + (np.arange(ROWS) % 3 == 2))
    workspace.add(model)
    assert (workspace.input("code").dtype, workspace.input("code").missing) == ("object", "none")
    workspace.assert_equal(model, frame)


@pytest.mark.parametrize("marker", [None, pd.NA], ids=["None", "NA"])
def test_the_marker_of_an_imputer_is_known(workspace: Workspace, marker: Any) -> None:
    frame = with_missing_words(marker, object)[["word"]]
    imputer = SimpleImputer(strategy="constant", fill_value="none at all", missing_values=marker)
    model = make_pipeline(imputer, OneHotEncoder(), LinearRegression()).fit(frame, TARGET)
    printed = workspace.add(model, frame)
    workspace.assert_equal(model, frame)
    assert "assumed" not in printed


def test_null_becomes_none_for_a_model_that_distinguishes_none_from_nan(workspace: Workspace) -> None:
    frame = with_missing_words(None, object)
    columns = ColumnTransformer([("words", OneHotEncoder(handle_unknown="ignore"), ["word"])], remainder="passthrough")
    model = make_pipeline(columns, LinearRegression()).fit(frame, TARGET)
    workspace.add(model, frame[frame["word"].notna()])
    [example] = [example for example in workspace.manifest.examples if example.instance["word"] is None]
    row = pd.DataFrame({"word": pd.Series([None], dtype=object), "number": [example.instance["number"]]})
    assert same(example.outputs["prediction"], float(model.predict(row)[0]))


def test_a_model_that_learned_none_and_nan_gets_a_remark_about_null(workspace: Workspace) -> None:
    words = pd.Series([None, np.nan, "red", "blue"] * 12, dtype=object)
    frame = pd.DataFrame({"word": words, "number": NUMBERS})
    columns = ColumnTransformer([("words", OneHotEncoder(), ["word"])], remainder="passthrough")
    model = make_pipeline(columns, LinearRegression()).fit(frame, TARGET + (np.arange(ROWS) % 4 == 0))
    printed = workspace.add(model, frame)
    assert "trained with None and with NaN, which JSON and CSV cannot tell apart" in printed
    assert workspace.input("word").missing == "none"


def is_none(frame: Any) -> Any:
    return pd.DataFrame({name: [1.0 if value is None else 0.0 for value in frame[name]] for name in frame})


@pytest.mark.parametrize("declared", [None, "none"])
def test_an_unknown_marker_is_declared_or_assumed_and_reported(workspace: Workspace, declared: str | None) -> None:
    frame = with_missing_words(None, object)[["word"]]
    model = make_pipeline(FunctionTransformer(is_none), LinearRegression()).fit(frame, TARGET)
    inputs = [{"name": "word", "kind": "category", "dtype": "object", "missing": declared}]
    printed = workspace.add(model, frame, inputs=None if declared is None else inputs)
    if declared is None:
        assert 'declare "missing": "none" with --inputs if it is None' in printed
        assert [each.inputs for each in workspace.manifest.assumptions if each.about == "inputs"] == [("word",)]
    else:
        assert "assumed" not in printed
        workspace.assert_equal(model, frame)


def lengths_of_objects(frame: Any) -> Any:
    return frame.map(len) if frame["word"].dtype == object else pd.DataFrame({"word": np.zeros(len(frame))})


def lengths_of_selected(frame: Any) -> Any:
    frame = frame.copy()
    for name in frame.select_dtypes(include="object"):
        frame[name] = frame[name].map(len)
    return frame[["word"]].astype(float)


def codes(frame: Any) -> Any:
    return pd.DataFrame({"word": frame["word"].cat.codes, "order": frame["word"].cat.ordered})


def lengths(frame: Any) -> Any:
    return pd.DataFrame({"word": frame["word"].str.len().astype(float)})


def name_of_dtype(frame: Any) -> Any:
    return pd.DataFrame(
        {n: [float(sum(map(ord, str(frame[n].dtype)))) + row for row in range(len(frame))] for n in frame}
    )


ORDERED = pd.CategoricalDtype(["red", "blue", "green"], ordered=True)


@pytest.mark.parametrize(
    ("step", "dtype"),
    [
        (lengths_of_objects, object),
        (lengths_of_objects, "str"),
        (lengths_of_selected, object),
        (lengths_of_selected, "str"),
        (lengths, "string[python]"),
        (lengths, "string[pyarrow]"),
        (codes, "category"),
        (codes, ORDERED),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:20]),
)
def test_a_custom_step_gets_the_dtypes_of_the_parquet_sample(workspace: Workspace, step: Any, dtype: Any) -> None:
    frame = pd.DataFrame({"word": pd.Series(WORDS).astype(dtype)})
    model = make_pipeline(FunctionTransformer(step), LinearRegression()).fit(frame, TARGET)
    printed = workspace.add(model, frame, ".parquet")
    assert "assumed" not in printed
    workspace.assert_equal(model, frame)


@pytest.mark.parametrize(
    "dtype",
    [
        *("int8", "int32", "uint16", "float32", "float64", "bool", "object", "category", "string[python]"),
        *("Int64", "Int32", "Float64", "Float32", "boolean", "datetime64[s]", "datetime64[ms]", "datetime64[ns]"),
        "datetime64[us, Europe/Berlin]",
    ],
)
def test_every_dtype_is_kept(workspace: Workspace, dtype: str) -> None:
    values: Any = TIMES if dtype.startswith("datetime") else pd.Series([0, 1] * (ROWS // 2))
    values = pd.Series(WORDS) if dtype.startswith(("obj", "cat", "str")) else values
    zoned = values.dt.tz_localize("UTC") if "," in dtype else values
    frame = pd.DataFrame({"x": zoned.astype(dtype)})
    model = make_pipeline(FunctionTransformer(name_of_dtype), LinearRegression()).fit(frame, TARGET)
    model[-1].coef_[:] = 1.0
    workspace.add(model, frame, ".parquet")
    workspace.assert_equal(model, frame)


@pytest.mark.parametrize("target", [None, "y"])
def test_an_unknown_dtype_is_found_by_the_target_or_assumed_and_reported(
    workspace: Workspace, target: str | None
) -> None:
    frame = pd.DataFrame({"word": pd.Series(WORDS, dtype=object)})
    lengths_of_words = frame["word"].map(len).astype(float)
    model = make_pipeline(FunctionTransformer(lengths_of_objects), LinearRegression()).fit(frame, lengths_of_words)
    if target is None:
        printed = workspace.add(model, frame)
        [assumption] = [each for each in workspace.manifest.assumptions if each.about == "inputs"]
        assert assumption.text.startswith("input word: assumed to be str as in training")
        assert assumption.text in printed
        assert assumption.inputs == ("word",)
        return
    printed = workspace.add(model, frame.assign(y=lengths_of_words), target="y")
    assert (
        "input word: inferred to be object in training, since the predictions then agree best with the target"
        in printed
    )
    workspace.assert_equal(model, frame)


def test_a_dtype_that_does_not_matter_is_not_reported(workspace: Workspace) -> None:
    frame = pd.DataFrame({"word": pd.Series(WORDS, dtype=object), "number": NUMBERS})
    columns = make_column_transformer((OneHotEncoder(), ["word"]), remainder="passthrough")
    model = make_pipeline(columns, LinearRegression()).fit(frame, TARGET)
    assert "assumed" not in workspace.add(model, frame)


@pytest.mark.parametrize("dtype", ["category", "float32"])
def test_the_dtype_of_a_column_selector_is_known(workspace: Workspace, dtype: str) -> None:
    column = pd.Series(WORDS, dtype="category") if dtype == "category" else pd.Series(NUMBERS, dtype="float32")
    frame = pd.DataFrame({"x": column, "number": NUMBERS})
    part = OneHotEncoder() if dtype == "category" else StandardScaler()
    columns = make_column_transformer((part, make_column_selector(dtype_include=dtype)), remainder="passthrough")
    model = make_pipeline(columns, LinearRegression()).fit(frame, TARGET)
    workspace.add(model, frame)
    assert workspace.input("x").dtype == dtype
    workspace.assert_equal(model, frame)


def test_a_booster_of_categories_by_dtype_gets_categories(workspace: Workspace) -> None:
    frame = pd.DataFrame({"word": pd.Series(WORDS, dtype="category"), "number": NUMBERS})
    model = HistGradientBoostingRegressor(max_iter=5, categorical_features="from_dtype").fit(frame, TARGET)
    workspace.add(model, frame)
    assert workspace.input("word").dtype == "category"
    workspace.assert_equal(model, frame)


def test_codes_of_categories_from_the_sample_are_assumed_and_reported(workspace: Workspace) -> None:
    frame = pd.DataFrame({"word": pd.Series(WORDS, dtype="category")})
    model = make_pipeline(FunctionTransformer(codes), LinearRegression()).fit(frame, TARGET)
    printed = workspace.add(model, frame)
    assert (
        "input word: assumed to be category as in training, in the order blue, green, red, since the model" in printed
    )
    workspace.assert_equal(model, frame)


def as_numbers(frame: Any) -> Any:
    return frame.assign(when=frame["when"].astype("int64"))


def as_hours(frame: Any) -> Any:
    return frame.assign(when=frame["when"].dt.hour)


DECLARED = [{"name": "when", "kind": "timestamp"}]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("told", ["by the sample", "by --inputs", "by the target", "by nobody"])
def test_the_unit_of_times_is_known_or_assumed_and_reported(workspace: Workspace, unit: str, told: str) -> None:
    frame = pd.DataFrame({"when": TIMES.astype(f"datetime64[{unit}]")})
    target = np.arange(ROWS) * 2.0
    model = make_pipeline(FunctionTransformer(as_numbers), StandardScaler(), LinearRegression()).fit(frame, target)
    if told == "by the sample":
        printed = workspace.add(model, frame, ".parquet")
    elif told == "by --inputs":
        printed = workspace.add(model, frame, inputs=[{**DECLARED[0], "dtype": f"datetime64[{unit}]"}])
    elif told == "by the target":
        printed = workspace.add(model, frame.assign(y=target + RANDOM.normal(size=ROWS)), inputs=DECLARED, target="y")
        assert f"input when: inferred to be datetime64[{unit}] in training, since the predictions" in printed
    else:
        printed = workspace.add(model, frame, inputs=DECLARED)
        assert "input when: assumed to be datetime64[us] as in training" in printed
    assert ("assumed" in printed) is (told == "by nobody")
    if told != "by nobody" or unit == "us":
        workspace.assert_equal(model, frame)


def test_a_unit_that_does_not_matter_is_not_reported(workspace: Workspace) -> None:
    frame = pd.DataFrame({"when": TIMES.astype("datetime64[ns]")})
    model = make_pipeline(FunctionTransformer(as_hours), LinearRegression()).fit(frame, TARGET)
    assert "assumed" not in workspace.add(model, frame, inputs=DECLARED)
    workspace.assert_equal(model, frame)


NARROW = pd.DataFrame(RANDOM.normal(size=(ROWS, 3)).astype(np.float32), columns=["a", "b", "c"])


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        make_pipeline(StandardScaler(), Ridge()),
        make_pipeline(SimpleImputer(), MinMaxScaler(), LinearRegression()),
        make_pipeline(PCA(2), LinearRegression()),
        KNeighborsRegressor(weights="distance"),
        make_pipeline(StandardScaler(), SVR()),
        make_pipeline(make_column_transformer((StandardScaler(), ["a"]), remainder="passthrough"), Ridge()),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), LogisticRegression(solver="liblinear")),
        GaussianNB(),
    ],
    ids=lambda model: str(model)[:60].replace("\n", ""),
)
def test_a_model_trained_on_float32_is_given_float32(workspace: Workspace, model: Any) -> None:
    labels = TARGET.mean() < TARGET if hasattr(model, "predict_proba") else TARGET
    model = clone(model).fit(NARROW, labels)
    printed = workspace.add(model, NARROW)
    assert {spec.dtype for spec in workspace.manifest.signature.inputs} == {"float32"}
    assert "assumed" not in printed
    workspace.assert_equal(model, NARROW)


@pytest.mark.parametrize("model", [LinearRegression(), make_pipeline(StandardScaler(), Ridge()), GaussianNB()])
def test_a_model_trained_on_float64_is_given_float64_without_a_remark(workspace: Workspace, model: Any) -> None:
    wide = pd.DataFrame(RANDOM.normal(size=(ROWS, 3)), columns=["a", "b", "c"])
    model = clone(model).fit(wide, TARGET.mean() < TARGET)
    assert "assumed" not in workspace.add(model, wide)
    assert {spec.dtype for spec in workspace.manifest.signature.inputs} == {"float64"}


def test_short_numbers_are_assumed_to_be_float32_if_another_column_is(workspace: Workspace) -> None:
    frame = NARROW.assign(c=NARROW["c"].round(1))
    model = make_pipeline(StandardScaler(), LinearSVR()).fit(frame, TARGET)
    assert "input c: assumed to be float32 as in training" in workspace.add(model, frame)
    assert {spec.dtype for spec in workspace.manifest.signature.inputs} == {"float32"}
    workspace.assert_equal(model, frame)


@pytest.mark.parametrize("width", ["float32", "float64"])
def test_an_array_with_some_short_numbers_has_one_width(workspace: Workspace, width: str) -> None:
    table = pd.DataFrame(RANDOM.normal(size=(ROWS, 3)).astype(width), columns=["a", "b", "c"])
    table["c"] = table["c"].round(1)
    model = make_pipeline(StandardScaler(), LinearSVR()).fit(table.to_numpy(), TARGET)
    assert "assumed" not in workspace.add(model, table)
    assert {spec.dtype for spec in workspace.manifest.signature.inputs} == {width}


def test_an_unknown_width_is_assumed_and_reported(workspace: Workspace) -> None:
    short = pd.DataFrame({"a": NUMBERS.round(1)})
    model = make_pipeline(StandardScaler(), LinearSVR()).fit(short, TARGET)
    assert "input a: assumed to be float64 as in training" in workspace.add(model, short)
