import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.tree import DecisionTreeRegressor

from app.packing.exporters import encoding
from app.packing.exporters.graph import Graph, NotExportable
from app.packing.infer import infer
from tests.packing.exporters.equal import compared, differences

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(4)
ROWS = 80
FRAME = pd.DataFrame(
    {
        "colour": RNG.choice(["red", "green", "blue", "grün", ""], ROWS, p=[0.5, 0.3, 0.1, 0.06, 0.04]),
        "size": RNG.choice(["s", "m", "red"], ROWS),
        "count": RNG.choice([3, -7, 12, 2**53 + 1], ROWS, p=[0.6, 0.3, 0.05, 0.05]),
        "ratio": RNG.choice([0.1, -0.0, 2.5, 1e300], ROWS, p=[0.6, 0.3, 0.05, 0.05]),
        "member": RNG.random(ROWS) < 0.5,
    }
)
GAPS = FRAME.drop(columns=["count", "member"])
GAPS.loc[::5, "colour"] = None
GAPS.loc[::4, "ratio"] = np.nan
UNSEEN = pd.concat([FRAME, FRAME[:4].assign(colour="pink", size="green", count=4, ratio=0.2)], ignore_index=True)
UNSEEN_GAPS = pd.concat([GAPS, GAPS[:4].assign(colour="pink", size=None, ratio=0.2)], ignore_index=True)

ONE_HOT = [
    {},
    {"drop": "first"},
    {"drop": "if_binary"},
    {"handle_unknown": "ignore"},
    {"handle_unknown": "ignore", "drop": "first"},
    {"handle_unknown": "ignore", "min_frequency": 10},
    {"handle_unknown": "infrequent_if_exist", "min_frequency": 0.2},
    {"handle_unknown": "infrequent_if_exist", "max_categories": 2, "drop": "first"},
    {"handle_unknown": "infrequent_if_exist", "max_categories": 2, "drop": "if_binary"},
    {"handle_unknown": "warn", "min_frequency": 6},
    {"sparse_output": False, "dtype": np.int32, "max_categories": 1},
]
ORDINAL = [
    {},
    {"handle_unknown": "use_encoded_value", "unknown_value": -1},
    {"handle_unknown": "use_encoded_value", "unknown_value": np.nan, "encoded_missing_value": -2},
    {"handle_unknown": "use_encoded_value", "unknown_value": 99, "min_frequency": 10},
    {"handle_unknown": "use_encoded_value", "unknown_value": -1, "max_categories": 2, "encoded_missing_value": 50},
    {"dtype": np.int64, "handle_unknown": "use_encoded_value", "unknown_value": -5, "encoded_missing_value": -6},
]
ENCODERS = [*(OneHotEncoder(**options) for options in ONE_HOT), *(OrdinalEncoder(**options) for options in ORDINAL)]


# Scikit-learn 1.6 encodes unknown values differently with "warn"; packing finds that its graph does not equal it.
AS_PINNED = [
    pytest.param(each, marks=[pytest.mark.pinned] if each.handle_unknown == "warn" else []) for each in ENCODERS
]


@pytest.mark.parametrize("encoder", AS_PINNED, ids=str)
@pytest.mark.parametrize("sparse_from", [1, 10**6])
def test_an_encoder_equals_its_graph(encoder, sparse_from, monkeypatch):
    monkeypatch.setattr(encoding, "SPARSE_FROM", sparse_from)
    strict = encoder.handle_unknown == "error"
    assert differences(encoder.fit(FRAME), FRAME if strict else UNSEEN) == []
    assert differences(encoder.fit(GAPS), GAPS if strict else UNSEEN_GAPS) == []


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=str)
def test_an_encoder_equals_its_graph_for_every_batch_size(encoder):
    signature, _ = infer(encoder.fit(GAPS), GAPS)
    for rows in (1, 2, 31, 1000):
        frame = GAPS.iloc[np.arange(rows) % ROWS]
        assert compared(encoder, signature, frame, ("prediction",)) == []


@pytest.mark.parametrize("encoder", [ENCODERS[6], ENCODERS[-4]], ids=str)
@pytest.mark.parametrize("column", FRAME.columns)
def test_an_encoder_of_one_column_equals_its_graph(encoder, column):
    assert differences(encoder.fit(FRAME[[column]]), UNSEEN[[column]]) == []
    if column in GAPS:
        assert differences(encoder.fit(GAPS[[column]]), UNSEEN_GAPS[[column]]) == []
        assert differences(encoder.fit(FRAME[[column]]), UNSEEN_GAPS[[column]]) == []


def test_encoders_of_matrices_equal_their_graphs():
    for frame in (FRAME[["colour", "size"]], FRAME[["ratio"]]):
        rows = frame.to_numpy()
        assert differences(OneHotEncoder().fit(rows), rows) == []
        assert differences(OrdinalEncoder().fit(rows), rows) == []


@pytest.mark.parametrize("missing", [None, np.nan])
def test_an_encoder_with_given_categories_equals_its_graph(missing):
    rows = np.array([["b", "x"], ["a", "y"], [missing, "x"]], dtype=object)
    categories = [["c", "b", "a", missing], ["y", "x"]]
    assert differences(OneHotEncoder(categories=categories).fit(rows), rows) == []
    assert differences(OneHotEncoder(categories=categories, drop=["b", "x"]).fit(rows), rows) == []
    ignoring = OneHotEncoder(categories=categories, handle_unknown="ignore").fit(rows)
    assert differences(ignoring, rows) == []


def test_an_encoder_of_a_wide_frame_equals_its_graph():
    columns = {f"c{i}": RNG.choice(list("abcdefgh"[: 2 + i % 6]), ROWS) for i in range(9)}
    frame = pd.DataFrame(columns)
    for encoder in (OneHotEncoder(drop="if_binary"), OneHotEncoder(min_frequency=15)):
        assert differences(encoder.fit(frame), frame) == []


@pytest.mark.parametrize("target", ["continuous", "binary", "multiclass"])
@pytest.mark.parametrize("frame", [FRAME, GAPS], ids=["whole", "gaps"])
def test_a_target_encoder_equals_its_graph(target, frame):
    y = {
        "continuous": RNG.normal(size=ROWS),
        "binary": RNG.choice(["no", "yes"], ROWS),
        "multiclass": RNG.integers(0, 4, ROWS),
    }[target]
    encoder = TargetEncoder(random_state=0).fit(frame, y)
    unseen = UNSEEN if frame is FRAME else UNSEEN_GAPS
    assert differences(encoder, unseen) == []
    assert differences(encoder.fit(frame[["colour"]], y), unseen[["colour"]]) == []


def test_large_tables_are_split(monkeypatch):
    monkeypatch.setattr(encoding, "MAX_TABLE", 4)
    y = RNG.integers(0, 3, ROWS)
    for encoder in (*ENCODERS[11:], ENCODERS[6]):
        if encoder.handle_unknown != "error":
            assert differences(encoder.fit(GAPS), UNSEEN_GAPS) == []
    assert differences(TargetEncoder().fit(FRAME, y), UNSEEN) == []


def test_text_categories_of_a_column_of_numbers_have_no_graph():
    encoder = OneHotEncoder(handle_unknown="ignore").fit(FRAME[["ratio"]])
    encoder.categories_ = [np.array(["a", "b"], dtype=object)]
    g = Graph()
    with pytest.raises(NotExportable, match="of another type"):
        g.transform(encoder, (g.input("x", "float64", 1),))


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(handle_unknown="ignore", drop="first"),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("last", [LogisticRegression(), DecisionTreeRegressor(max_depth=4), None], ids=str)
def test_indicators_of_many_categories_are_scattered(encoder, last):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: [f"{name}{k}" for k in random.integers(0, 300, 400)] for name in ("a", "b")})
    frame["length"] = random.normal(size=400)
    columns = make_column_transformer((encoder, ["a", "b"]), (StandardScaler(), ["length"]))
    model = columns if last is None else make_pipeline(columns, last)
    assert differences(model.fit(frame, (frame["length"] > 0).astype(int)), frame) == []
