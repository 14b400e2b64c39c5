"""Signatures are inferred from fitted estimators, with and without a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import BernoulliNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from app.errors import InvalidInstances, PackingRefused
from app.packing.declared import Declared, DeclaredInput
from app.packing.infer import infer, outputs_lost
from app.packing.probe import attempt
from app.signature import Input, Layout, Signature
from app.signature.validator import Validator
from tests.packing.artifacts import ROWS, AlwaysFailing, Picky, flowers

# Packing ignores warnings in its own process; here it runs in this process.
pytestmark = pytest.mark.filterwarnings("ignore")

FRAME = flowers()
SPECIES = FRAME.pop("species").to_numpy()
NUMBERS = FRAME[["length", "petals"]].fillna(5.0)
COLOURS = ("blue", "green", "red")
TEXTS = ["rose red", "aster blue", "rose pink", "aster white"] * 5


def mixed(encoder: Any, *, imputed: bool = True, by: str = "name") -> Pipeline:
    """Return a pipeline of scaled numbers and encoded colours, imputed or not, with columns by name or by index."""
    impute_numbers = [("impute", SimpleImputer())] if imputed else []
    impute_words = [("impute", SimpleImputer(strategy="most_frequent"))] if imputed else []
    numbers: list[Any] = ["length", "petals"] if by == "name" else [0, 1]
    words: list[Any] = ["colour"] if by == "name" else [2]
    columns = ColumnTransformer(
        [
            ("numbers", Pipeline([*impute_numbers, ("scale", StandardScaler())]), numbers),
            ("words", Pipeline([*impute_words, ("encode", encoder)]), words),
        ]
    )
    return make_pipeline(columns, BernoulliNB())


def trained(model: Any, *, imputed: bool = True, array: bool = False) -> Any:
    features = FRAME[["length", "petals", "colour"]]
    complete = features.notna().all(axis=1)
    features, target = (features, SPECIES) if imputed else (features[complete], SPECIES[complete])
    return model.fit(features.astype(object).where(features.notna(), np.nan).to_numpy() if array else features, target)


def inputs(model: Any, sample: pd.DataFrame | None = None) -> dict[str, Input]:
    signature, records = infer(model, sample)
    assert attempt(model, signature, records) is None
    return {spec.name: spec for spec in signature.inputs}


def inferred(model: Any, sample: pd.DataFrame | None = None) -> Signature:
    return infer(model, sample)[0]


def test_a_plain_estimator_without_names_takes_numbered_features() -> None:
    signature, records = infer(LogisticRegression().fit(NUMBERS.to_numpy(), SPECIES), None)
    assert signature.names == ("feature1", "feature2")
    assert signature.layout is Layout.MATRIX
    assert [(s.kind, s.dtype, s.nullable) for s in signature.inputs] == [("number", "float64", False)] * 2
    assert signature.outputs == ("prediction", "probabilities", "decision_scores")
    assert signature.defaults == ("prediction", "probabilities")
    assert signature.classes == ("aster", "rose")
    assert len(records) > 1
    assert all(set(record) == set(signature.names) for record in records)


def test_a_plain_estimator_with_names_takes_its_features() -> None:
    signature = inferred(LinearRegression().fit(NUMBERS, NUMBERS["length"]))
    assert (signature.names, signature.layout) == (("length", "petals"), Layout.FRAME)
    assert (signature.outputs, signature.defaults, signature.classes) == (("prediction",), ("prediction",), None)


@pytest.mark.slow
@pytest.mark.parametrize(("by", "imputed"), [("name", True), ("name", False), ("index", True)])
@pytest.mark.parametrize(
    ("encoder", "unseen"),
    [
        (OneHotEncoder(), "reject"),
        (OneHotEncoder(handle_unknown="ignore"), "accept"),
        (OneHotEncoder(handle_unknown="infrequent_if_exist"), "accept"),
        (OrdinalEncoder(), "reject"),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), "accept"),
        (TargetEncoder(cv=2), "accept"),
    ],
    ids=["onehot", "onehot-ignore", "onehot-infrequent", "ordinal", "ordinal-unknown", "target"],
)
def test_categories_nulls_and_unknown_categories_are_found_in_the_parts_of_a_pipeline(
    encoder: Any, unseen: str, by: str, imputed: bool
) -> None:
    model = trained(mixed(encoder, imputed=imputed, by=by), imputed=imputed, array=by == "index")
    length, petals, colour = inputs(model).values()
    assert [spec.name for spec in (length, petals, colour)] == (
        ["length", "petals", "colour"] if by == "name" else ["feature1", "feature2", "feature3"]
    )
    assert (length.kind, petals.kind, colour.kind) == ("number", "number", "category")
    assert (length.nullable, petals.nullable) == (imputed, imputed)
    assert (colour.categories, colour.unseen) == (COLOURS, unseen)
    # Without an imputer the encoder decides: one that accepts unseen values also accepts missing ones.
    assert colour.nullable or unseen == "reject" or isinstance(encoder, TargetEncoder)
    assert not colour.nullable or imputed or unseen == "accept"


@pytest.mark.slow
def test_columns_chosen_by_dtype_need_no_names() -> None:
    columns = ColumnTransformer(
        [
            ("words", OneHotEncoder(), make_column_selector(dtype_include=["object", "str"])),
            ("rest", "passthrough", make_column_selector(dtype_include="number")),
        ]
    )
    model = make_pipeline(columns, BernoulliNB())
    model.fit(FRAME[["petals", "colour"]].dropna(), SPECIES[FRAME["colour"].notna()])
    found = inputs(model)
    assert (found["petals"].kind, found["colour"].categories) == ("number", COLOURS)


def test_a_column_that_the_model_drops_takes_anything() -> None:
    columns = ColumnTransformer([("numbers", StandardScaler(), ["petals"])])
    model = make_pipeline(columns, BernoulliNB()).fit(FRAME[["petals", "colour"]], SPECIES)
    found = inputs(model)
    assert [(spec.kind, spec.nullable) for spec in found.values()] == [("number", False), ("unused", True)]


@pytest.mark.slow
def test_a_column_that_is_passed_through_is_a_number() -> None:
    columns = ColumnTransformer([("numbers", StandardScaler(), ["petals"])], remainder="passthrough")
    model = make_pipeline(columns, BernoulliNB()).fit(NUMBERS, SPECIES)
    assert [spec.kind for spec in inputs(model).values()] == ["number", "number"]


@pytest.mark.slow
@pytest.mark.parametrize("with_sample", [True, False])
def test_integers_may_be_categories(with_sample: bool) -> None:
    columns = ColumnTransformer([("codes", OneHotEncoder(), ["petals"]), ("rest", "passthrough", ["length"])])
    model = make_pipeline(columns, BernoulliNB()).fit(NUMBERS, SPECIES)
    petals = inputs(model, NUMBERS if with_sample else None)["petals"]
    assert (petals.kind, petals.dtype, petals.unseen) == ("category", "int64", "reject")
    assert petals.categories == tuple(sorted(NUMBERS["petals"].unique().tolist()))


@pytest.mark.slow
@pytest.mark.parametrize("with_sample", [True, False])
def test_booleans_may_be_categories(with_sample: bool) -> None:
    columns = ColumnTransformer([("flags", OneHotEncoder(), ["scented"]), ("rest", "passthrough", ["petals"])])
    features = FRAME[["scented", "petals"]]
    model = make_pipeline(columns, BernoulliNB()).fit(features, SPECIES)
    scented = inputs(model, features if with_sample else None)["scented"]
    assert (scented.kind, scented.categories, scented.unseen) == ("category", (False, True), "reject")


@pytest.mark.slow
def test_kinds_ranges_and_categories_are_those_of_the_sample() -> None:
    features = FRAME[["length", "petals", "colour", "scented"]]
    model = make_pipeline(
        ColumnTransformer([("numbers", SimpleImputer(), ["length", "petals", "scented"])]), BernoulliNB()
    ).fit(features, SPECIES)
    length, petals, colour, scented = inputs(model, features).values()
    assert (length.kind, length.nullable, length.minimum) == ("number", True, features["length"].min())
    assert (petals.kind, petals.dtype, petals.maximum) == ("integer", "int64", features["petals"].max())
    assert (scented.kind, scented.dtype) == ("boolean", "bool")
    assert (colour.kind, colour.categories, colour.unseen, colour.nullable) == ("category", COLOURS, "accept", True)
    assert length.example == features["length"][0]


@pytest.mark.slow
def test_the_records_are_the_rows_of_the_sample_complete_ones_first() -> None:
    features = FRAME[["length", "petals", "colour"]]
    _, records = infer(trained(mixed(OneHotEncoder())), features)
    assert len(records) == ROWS
    assert records[0] == features.iloc[0].to_dict()
    assert [None in record.values() for record in records] == [False] * (ROWS - 2) + [True] * 2
    assert {type(record["petals"]) for record in records} == {int}


@pytest.mark.slow
def test_the_categories_of_the_encoder_take_precedence_over_the_sample() -> None:
    features = FRAME[["length", "petals", "colour"]].dropna()
    colour = inputs(trained(mixed(OneHotEncoder())), features[features["colour"] == "red"])["colour"]
    assert (colour.categories, colour.unseen) == (COLOURS, "reject")


def test_words_that_rarely_repeat_are_text() -> None:
    sample = pd.DataFrame({"petals": range(10), "note": [f"note {row}" for row in range(10)]})
    model = make_pipeline(ColumnTransformer([("numbers", "passthrough", ["petals"])]), LinearRegression())
    found = inputs(model.fit(sample, range(10)), sample)
    assert (found["note"].kind, found["note"].categories) == ("text", None)


def test_a_sample_without_names_fits_a_model_without_names() -> None:
    model = BernoulliNB().fit(NUMBERS.to_numpy(), SPECIES)
    found = inputs(model, NUMBERS)
    assert list(found) == ["feature1", "feature2"]
    assert found["feature1"].maximum == NUMBERS["length"].max()


@pytest.mark.parametrize("dtype", ["Int64", "Int32", "Float64"])
def test_nullable_numbers_of_pandas_keep_their_marker(dtype: str) -> None:
    sample = pd.DataFrame({"a": pd.array([1, 2, None, 4] * 5, dtype=dtype)})
    model = make_pipeline(SimpleImputer(), LinearRegression()).fit(sample.astype("float64"), range(20))
    found = inputs(model, sample)["a"]
    assert (found.kind, found.dtype) == ("integer" if dtype.startswith("Int") else "number", dtype.lower())
    assert (found.nullable, found.minimum, found.maximum) == (True, 1.0, 4.0)


def test_a_nullable_boolean_of_pandas_keeps_its_marker() -> None:
    sample = pd.DataFrame({"a": pd.array([True, False, None, True] * 5, dtype="boolean")})
    model = make_pipeline(OneHotEncoder(), LinearRegression()).fit(sample.astype(object).fillna(np.nan), range(20))
    found = inputs(model, sample)["a"]
    assert (found.kind, found.nullable) == ("category", True)


def test_categories_of_pandas_are_kept() -> None:
    sample = FRAME[["petals", "colour"]].dropna().astype({"colour": pd.CategoricalDtype(["red", "green", "blue"])})
    model = make_pipeline(
        ColumnTransformer([("words", OneHotEncoder(), ["colour"])], remainder="passthrough"), LinearRegression()
    ).fit(sample, range(len(sample)))
    colour = inputs(model, sample)["colour"]
    assert (colour.kind, colour.dtype, colour.unseen) == ("category", "category", "reject")
    assert sorted(map(str, colour.categories or ())) == list(COLOURS)


@pytest.mark.parametrize("vectorizer", [TfidfVectorizer(), CountVectorizer(analyzer="char")])
@pytest.mark.parametrize("sample", [None, pd.DataFrame({"text": TEXTS})], ids=["no sample", "sample"])
def test_a_text_pipeline_takes_one_text(vectorizer: Any, sample: pd.DataFrame | None) -> None:
    model = make_pipeline(vectorizer, BernoulliNB()).fit(TEXTS, ["rose", "aster"] * 10)
    signature, records = infer(model, sample)
    [spec] = signature.inputs
    name = "feature1" if sample is None else "text"
    assert (signature.layout, spec.name, spec.kind, spec.nullable) == (Layout.SEQUENCE, name, "text", False)
    assert records[0] == {name: "some text" if sample is None else TEXTS[0]}


def test_a_declared_input_names_the_text_and_chooses_its_column() -> None:
    model = make_pipeline(TfidfVectorizer(), BernoulliNB()).fit(TEXTS, ["rose", "aster"] * 10)
    declared = Declared(inputs=(DeclaredInput("review", "text"),))
    for frame in (None, pd.DataFrame({"text": TEXTS})):
        signature, _ = infer(model, frame, declared)
        assert signature.names == ("review",)
    with pytest.raises(PackingRefused, match="the declared input 'review' is no input of the model: text"):
        infer(
            model,
            pd.DataFrame({"text": TEXTS}),
            Declared(inputs=(DeclaredInput("review", "text"), DeclaredInput("b", "text"))),
        )


def test_a_declared_input_that_a_model_without_names_does_not_have_is_refused() -> None:
    model = LinearRegression().fit([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0])
    with pytest.raises(PackingRefused, match="the declared input 'age' is no input of the model: feature1, feature2"):
        infer(model, None, Declared(inputs=(DeclaredInput("age", "integer"),)))


class FailsOnProbabilities(LogisticRegression):
    """Fail in `predict_proba`."""

    def predict_proba(self, features: Any) -> Any:
        raise ValueError("not fitted for that")


def test_an_output_whose_method_fails_is_left_out_with_a_remark() -> None:
    model = FailsOnProbabilities().fit([[1.0], [2.0]], [0, 1])
    signature, records = infer(model, None)
    assert "probabilities" not in signature.outputs
    assert outputs_lost(model, signature, records) == [
        "no output probabilities: predict_proba fails on the model's own rows (ValueError: not fitted for that)"
    ]


@pytest.mark.slow
def test_a_text_column_of_a_frame_is_a_text() -> None:
    sample = pd.DataFrame({"note": TEXTS, "petals": range(20)})
    columns = ColumnTransformer([("words", TfidfVectorizer(), "note"), ("rest", "passthrough", ["petals"])])
    model = make_pipeline(columns, BernoulliNB()).fit(sample, ["rose", "aster"] * 10)
    for given in (None, sample):
        found = inputs(model, given)
        assert (found["note"].kind, found["note"].categories) == ("text", None)
        assert found["petals"].kind in ("number", "integer")


@pytest.mark.slow
def test_a_search_has_the_inputs_of_its_best_estimator() -> None:
    search = GridSearchCV(mixed(OneHotEncoder()), {"bernoullinb__alpha": [0.5, 1.0]}, cv=2)
    found = inputs(trained(search))
    assert (found["colour"].categories, found["colour"].unseen, found["length"].nullable) == (COLOURS, "reject", True)


def test_a_model_of_a_transformed_target_has_the_inputs_of_its_regressor() -> None:
    inner = make_pipeline(SimpleImputer(), Ridge())
    model = TransformedTargetRegressor(inner, func=np.log1p, inverse_func=np.expm1)
    signature = inferred(model.fit(FRAME[["length", "petals"]], NUMBERS["petals"]))
    assert (signature.names, signature.outputs) == (("length", "petals"), ("prediction",))
    assert all(spec.nullable for spec in signature.inputs)


def test_a_regressor_may_have_several_targets() -> None:
    signature = inferred(DecisionTreeRegressor().fit(NUMBERS, NUMBERS.to_numpy()))
    assert (signature.outputs, signature.classes, signature.multioutput) == (("prediction",), None, False)


@pytest.mark.parametrize("model", [DecisionTreeClassifier(), MultiOutputClassifier(BernoulliNB())])
def test_a_classifier_may_have_several_targets(model: Any) -> None:
    target = np.column_stack([SPECIES, FRAME["petals"] > 5]).astype(str)
    signature = inferred(model.fit(NUMBERS, target))
    assert signature.multioutput
    assert signature.defaults == ("prediction", "probabilities")
    assert signature.classes == (["aster", "rose"], ["False", "True"])


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (SPECIES, ("aster", "rose")),
        (SPECIES.astype("U5"), ("aster", "rose")),
        ((SPECIES == "rose").astype(int), (0, 1)),
        ((SPECIES == "rose").astype(np.int8) * 2 - 1, (-1, 1)),
        (SPECIES == "rose", (False, True)),
        ((SPECIES == "rose").astype(float), (0.0, 1.0)),
        (np.array([np.str_(word) for word in SPECIES], dtype=object), ("aster", "rose")),
    ],
    ids=["object", "unicode", "int", "int8", "bool", "float", "numpy strings"],
)
def test_labels_are_json_values(target: Any, classes: tuple[Any, ...]) -> None:
    found = inferred(KNeighborsClassifier().fit(NUMBERS, target)).classes
    assert found == classes
    assert [type(label) for label in found or ()] == [type(label) for label in classes]


def test_a_classifier_without_probabilities_has_no_such_output() -> None:
    signature = inferred(LinearSVC().fit(NUMBERS, SPECIES))
    assert (signature.outputs, signature.defaults) == (("prediction", "decision_scores"), ("prediction",))


def test_the_prediction_of_a_transformer_is_its_transformed_columns() -> None:
    signature = inferred(StandardScaler().fit(NUMBERS))
    assert (signature.outputs, signature.classes) == (("prediction",), None)


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (pd.to_timedelta([1, 2, 3, 4], unit="s"), "timedelta64"),
        (np.array([1 + 2j] * 4), "complex128"),
        (pd.Series([1, "a", 2.5, None], dtype=object), "object"),
        (pd.Series([[1], [2], [3], [4]]), "object"),
    ],
    ids=["durations", "complex", "mixed", "lists"],
)
def test_a_column_that_no_kind_fits_is_refused(column: Any, dtype: str) -> None:
    sample = pd.DataFrame({"petals": [1, 2, 3, 4], "when": column})
    model = make_pipeline(ColumnTransformer([("numbers", "passthrough", ["petals"])]), LinearRegression())
    with pytest.raises(PackingRefused) as caught:
        infer(model.fit(sample, range(4)), sample)
    assert caught.value.detail.startswith(f"column 'when' of the sample holds {dtype}")
    assert caught.value.detail.endswith("values, which no kind of input fits")


def test_a_model_that_fails_on_the_sample_is_refused() -> None:
    model = Picky().fit([[1.0], [2.0]], ["rose", "rose"])
    with pytest.raises(PackingRefused) as caught:
        infer(model, pd.DataFrame({"length": [9.0]}))
    assert caught.value.detail == "the model fails on the sample's rows (ValueError: too long for me)"


def hours(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"hour": frame["when"].dt.hour, "petals": frame["petals"]})


@pytest.mark.parametrize("texts", [["2024-01-31T12:30:00", "2024-02-01T08:00:00.5"], ["2024-01-31", "2024-02-01"]])
def test_times_written_as_text_are_refused_with_their_declaration(texts: list[str]) -> None:
    times = pd.DataFrame({"when": pd.to_datetime(["2024-01-31", "2024-02-01"]), "petals": [3, 4]})
    model = make_pipeline(FunctionTransformer(hours), LinearRegression()).fit(times, [1.0, 2.0])
    with pytest.raises(PackingRefused) as caught:
        infer(model, times.assign(when=texts))
    assert caught.value.detail == (
        "the model fails on the sample's rows (AttributeError: Can only use .dt accessor with datetimelike values); "
        "'when' looks like times: declare that with --inputs and a file that holds "
        '[{"name":"when","kind":"timestamp"}]'
    )
    with pytest.raises(PackingRefused) as caught:
        infer(model, times.assign(when=["2024-01-31", "yesterday"]))
    assert caught.value.detail.endswith("datetimelike values)")
    infer(model, times.assign(when=texts), Declared(inputs=(DeclaredInput("when", "timestamp"),)))


def test_records_on_which_the_model_fails_are_left_out() -> None:
    model = Picky().fit([[1.0], [2.0]], ["rose", "rose"])
    signature, records = infer(model, pd.DataFrame({"length": [1.0, 9.0, 2.0]}))
    assert [record["feature1"] for record in records] == [1.0, 2.0]
    assert signature.inputs[0].maximum == 9.0


def test_a_model_that_fails_on_made_up_records_needs_a_sample() -> None:
    with pytest.raises(PackingRefused) as caught:
        infer(AlwaysFailing().fit([[1.0], [2.0]], ["rose", "aster"]), None)
    assert caught.value.detail == (
        "nothing tells what its inputs are, and it fails on values made up for them (ValueError: not today); "
        "give rows that it was trained on with --sample"
    )


class Counting(LinearRegression):
    """Count the predictions."""

    def predict(self, features: Any) -> Any:
        self.runs_ = getattr(self, "runs_", 0) + 1
        return super().predict(features)


@pytest.mark.slow
def test_many_columns_are_probed_for_nulls_in_few_runs() -> None:
    wide = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 64)), columns=[f"c{n}" for n in range(64)])
    columns = ColumnTransformer([("needed", StandardScaler(), ["c7"])], remainder=SimpleImputer())
    model = make_pipeline(columns, Counting()).fit(wide, range(20))
    assert [name for name, spec in inputs(model).items() if not spec.nullable] == ["c7"]
    assert model[-1].runs_ < 32


def test_a_number_that_the_model_cannot_hold_is_not_accepted() -> None:
    # Trees compute in float32: the signature must refuse larger numbers, before the model fails on them.
    signature, records = infer(DecisionTreeClassifier().fit(NUMBERS, SPECIES), None)
    with pytest.raises(InvalidInstances):
        Validator(signature, 1).validate([records[0] | {"length": 1e39}])


def test_times_need_a_model_that_was_fitted_on_a_frame() -> None:
    sample = pd.DataFrame({"a": [1, 2], "when": pd.date_range("2026-01-01", periods=2)})
    with pytest.raises(PackingRefused, match="only a model fitted on a frame takes them"):
        infer(LinearRegression().fit([[1, 2], [3, 4]], [1, 2]), sample)
