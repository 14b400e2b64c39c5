import numpy as np
import pandas as pd
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from sklearn import preprocessing as p

from app.packing.graph import compile_graph
from app.packing.infer import infer
from app.runtime.graph import GraphServable, session_of
from app.signature.batch import Batch
from tests.packing.exporters.equal import differences

RNG = np.random.default_rng(0)
TRAINING = np.column_stack([RNG.normal(3, 2, 60), RNG.exponential(5, 60), RNG.integers(-4, 5, 60), np.ones(60)])
EXTREMES = [0.0, -0.0, 1e-300, -1e-300, 5e-324, 1e-9, -1e-9, 1.0, -1.0, 1e9, -1e9, 1e150, -1e150, 1e300, -1e300]
STRESS = np.concatenate([TRAINING, np.array(EXTREMES)[:, None] * [1.0, -1.0, 0.5, 3.0], np.zeros((2, 4))])
GAPS = np.where(RNG.random(STRESS.shape) < 0.2, np.nan, STRESS)

SCALERS = [
    p.StandardScaler(),
    p.StandardScaler(with_mean=False),
    p.StandardScaler(with_std=False),
    p.StandardScaler(with_mean=False, with_std=False),
    p.MinMaxScaler(),
    p.MinMaxScaler((-2, 3), clip=True),
    p.MaxAbsScaler(),
    p.RobustScaler(),
    p.RobustScaler(with_centering=False, unit_variance=True),
    p.RobustScaler(with_scaling=False),
    p.PowerTransformer(),
    p.PowerTransformer(standardize=False),
]
ROW_WISE = [*(p.Normalizer(norm) for norm in ("l1", "l2", "max")), p.Binarizer(), p.Binarizer(threshold=-1.5)]


def accepted(scaler, rows):
    """Return the rows that a power transformer accepts: it refuses rows that overflow when it standardizes."""
    return rows[np.nan_to_num(np.abs(rows)).max(axis=1) < 1e12] if isinstance(scaler, p.PowerTransformer) else rows


@pytest.mark.parametrize("scaler", SCALERS, ids=str)
def test_a_scaler_equals_its_graph_on_extremes_and_missing_values(scaler):
    assert differences(scaler.fit(TRAINING), accepted(scaler, GAPS)) == []


@pytest.mark.parametrize("scaler", [*SCALERS, *ROW_WISE], ids=str)
def test_a_scaler_equals_its_graph_for_every_size_of_batch(scaler):
    scaler.fit(TRAINING)
    for rows in (1, 2, 31, 1000):
        assert differences(scaler, np.resize(accepted(scaler, STRESS), (rows, 4))) == []


def test_a_scaler_trained_with_missing_values_equals_its_graph():
    for scaler in SCALERS[:-2]:
        scaler.fit(np.where(RNG.random(TRAINING.shape) < 0.1, np.nan, TRAINING))
        assert differences(scaler, accepted(scaler, GAPS)) == []


@pytest.mark.parametrize("exponent", [0.0, 2.0, 1e-20, 2 + 1e-15, 1.0, -3.0, 5.0])
def test_yeo_johnson_with_special_exponents_equals_its_graph(exponent):
    power = p.PowerTransformer(standardize=False).fit(TRAINING)
    power.lambdas_ = np.array([exponent, 0.5, exponent, 1.5])
    assert differences(power, STRESS) == []


@pytest.mark.parametrize("exponent", [None, 0.0, 1.0, -2.0])
def test_box_cox_equals_its_graph(exponent):
    positive = np.exp(RNG.normal(0, 2, (60, 3)))
    power = p.PowerTransformer("box-cox").fit(positive)
    if exponent is not None:
        power.lambdas_[1] = exponent
    stress = np.concatenate([positive, [[1e-9, 1e-9, 1e-9], [1.0, 1.0, 1.0], [1 + 1e-12, 1e8, 1e-150]]])
    assert differences(power, stress) == []


def test_box_cox_fails_on_values_that_are_not_positive():
    power = p.PowerTransformer("box-cox").fit(np.exp(RNG.normal(0, 2, (60, 3))))
    signature, _ = infer(power, pd.DataFrame(np.ones((5, 3))))
    graph = GraphServable(session_of(compile_graph(power, signature).SerializeToString()), signature)
    columns = {name: np.array([1.0, 2.0]) for name in signature.names}
    assert graph.run(Batch(columns, 2), ("prediction",))["prediction"].shape == (2, 3)
    for bad in (0.0, -0.0, -1.0):
        with pytest.raises(InvalidArgument, match="out of data bounds"):
            graph.run(Batch(columns | {signature.names[1]: np.array([1.0, bad])}, 2), ("prediction",))
