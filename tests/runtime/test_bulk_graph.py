"""Ensembles of trees for large batches: every answer is that of the graph in ONNX Runtime, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from app.errors import InvalidRepository
from app.packing.graph import compile_graph
from app.packing.infer import infer
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.runtime.bulk_graph import BulkGraph, bulk_graph
from app.runtime.graph import GraphServable, session_of
from app.runtime.large_batches import LargeBatches
from app.runtime.onnx_messages import array_of, fields_of, message_of
from app.signature.batch import Batch
from app.signature.schema import validators
from app.storage.repository import Repository
from tests.packing.artifacts import saved

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ROWS, COLUMNS = 400, 5
RANDOM = np.random.default_rng(0)
MATRIX = RANDOM.normal(size=(ROWS, COLUMNS)).round(2)
HOLES = np.where(RANDOM.random(MATRIX.shape) < 0.1, np.nan, MATRIX)
CLASSES = (MATRIX[:, 0] > 0).astype(int) + (MATRIX[:, 1] > 0.5)
NUMBERS = MATRIX @ RANDOM.normal(size=COLUMNS) + RANDOM.normal(size=ROWS)

MODELS: dict[str, tuple[Any, Any, Any]] = {
    "votes for two classes": (RandomForestClassifier(20, random_state=0), MATRIX, CLASSES > 0),
    "votes for three classes": (RandomForestClassifier(20, random_state=0), MATRIX, CLASSES),
    "shares of three classes": (RandomForestClassifier(20, min_samples_leaf=3, random_state=0), MATRIX, CLASSES),
    "means": (ExtraTreesRegressor(20, max_depth=7, random_state=0), MATRIX, NUMBERS),
    "sums for three classes": (GradientBoostingClassifier(n_estimators=8, random_state=0), MATRIX, CLASSES),
    "missing values in the trees": (HistGradientBoostingRegressor(max_iter=15, random_state=0), HOLES, NUMBERS),
    "missing values before them": (
        make_pipeline(SimpleImputer(), RandomForestClassifier(9, random_state=0)), HOLES, CLASSES,
    ),
}  # fmt: skip


def served(model: Any, features: Any, targets: Any, folder: Path) -> tuple[bytes, GraphServable, Any]:
    """The graph of a model, its servable, and its signature."""
    artifact = saved(model.fit(features, targets), folder / "model.joblib")
    sample = pd.DataFrame(features, columns=[f"feature{at + 1}" for at in range(COLUMNS)])
    sample.to_csv(folder / "sample.csv", index=False)
    pack(PackRequest(str(artifact), "trees", str(folder / "models"), sample=str(folder / "sample.csv")))
    repository = Repository(folder / "models")
    manifest = repository.manifest("trees", 1)
    assert manifest.graph is not None
    content = (repository.folder("trees", 1) / manifest.graph).read_bytes()
    return content, GraphServable(session_of(content), manifest.signature), manifest.signature


def near_splits(model: Any, features: Any) -> Any:
    """Rows with training values, and with the numbers on both sides of the splits of the trees."""
    last = model[-1] if hasattr(model, "steps") else model
    splits = [0.0]
    for tree in np.ravel(getattr(last, "estimators_", [])).tolist():
        splits += [split for split in tree.tree_.threshold.tolist() if split != -2.0]
    around = np.array([np.nextafter(split, to) for split in splits for to in (-np.inf, split, np.inf)])
    around = np.concatenate([around, around.astype(np.float32).astype(float), around.astype(np.float32) + 1e-9])
    rows = np.concatenate([features, RANDOM.choice(around, size=(9000, features.shape[1]))])
    return np.concatenate([rows, RANDOM.normal(size=(100, features.shape[1])) * 1e6])


@pytest.mark.parametrize("name", MODELS)
def test_large_batches_have_the_answers_of_the_graph(name: str, tmp_path: Path) -> None:
    model, features, targets = MODELS[name]
    content, graph, signature = served(model, features, targets, tmp_path)
    quick = bulk_graph(content, graph, signature)
    assert isinstance(quick, BulkGraph)
    for rows in (near_splits(model, features), features[:7]):
        batch = Batch.of_matrix(rows, signature.names)
        found, wanted = quick.run(batch, signature.defaults), graph.run(batch, signature.defaults)
        for output in signature.defaults:
            np.testing.assert_array_equal(found[output], wanted[output])
            assert found[output].dtype == wanted[output].dtype


def test_other_graphs_stay_as_they_are(tmp_path: Path) -> None:
    content, graph, signature = served(LogisticRegression(), MATRIX, CLASSES, tmp_path)
    assert bulk_graph(content, graph, signature) is None
    assert bulk_graph(content[:100], graph, signature) is None


def test_messages_are_written_as_they_were_read(tmp_path: Path) -> None:
    content, *_ = served(RandomForestClassifier(3), MATRIX, CLASSES, tmp_path)
    assert message_of(fields_of(content)) == content
    with pytest.raises(ValueError, match="another type"):
        array_of(message_of([(2, 0, 8)]))
    with pytest.raises(ValueError, match="cut short"):
        fields_of(content[:-5])


def test_the_first_large_batch_decides_who_runs_large_batches(tmp_path: Path) -> None:
    model, features, targets = MODELS["votes for three classes"]
    content, graph, signature = served(model, features, targets, tmp_path)
    reads: list[int] = []

    def read() -> bytes:
        reads.append(1)
        return content

    servable = LargeBatches(graph, read, signature)
    rows = near_splits(model, features)
    for size in (1, 511, 512, 5000, 9400):
        batch = Batch.of_matrix(rows[:size], signature.names)
        found, wanted = servable.run(batch, signature.defaults), graph.run(batch, signature.defaults)
        for output in signature.defaults:
            np.testing.assert_array_equal(found[output], wanted[output])
    assert len(reads) == 1


def test_a_graph_that_is_gone_runs_its_large_batches_itself(tmp_path: Path) -> None:
    _, graph, signature = served(*MODELS["means"], tmp_path)

    def read() -> bytes:
        raise InvalidRepository("graph.onnx cannot be read")

    batch = Batch.of_matrix(near_splits(MODELS["means"][0], MATRIX), signature.names)
    servable = LargeBatches(graph, read, signature)
    np.testing.assert_array_equal(
        servable.run(batch, ["prediction"])["prediction"], graph.run(batch, ["prediction"])["prediction"]
    )


def test_other_numbers_are_noticed(tmp_path: Path) -> None:
    content, graph, signature = served(*MODELS["means"], tmp_path)
    bulk = bulk_graph(content, graph, signature)
    assert bulk is not None
    assert bulk.equals(content)
    (tmp_path / "other").mkdir()
    other, *_ = served(ExtraTreesRegressor(20, max_depth=7, random_state=1), MATRIX, NUMBERS, tmp_path / "other")
    assert not bulk.equals(other)


def test_columns_of_any_type_are_compared_as_in_the_graph() -> None:
    numbers = RANDOM.integers(2**53, 2**60, ROWS)
    few = pd.Series(RANDOM.integers(-5, 9, ROWS), dtype="Int64").mask(RANDOM.random(ROWS) < 0.1)
    flags = pd.Series(RANDOM.random(ROWS) < 0.5, dtype="boolean").mask(RANDOM.random(ROWS) < 0.1)
    frame = pd.DataFrame({"large": numbers, "few": few, "flag": flags, "narrow": MATRIX[:, 0].astype("float32")})
    model = HistGradientBoostingClassifier(max_iter=8).fit(frame, CLASSES)
    signature, _ = infer(model, frame)
    content = compile_graph(model, signature).SerializeToString()
    graph = GraphServable(session_of(content), signature)
    bulk = bulk_graph(content, graph, signature)
    assert bulk is not None
    records = [{name: None if pd.isna(row[name]) else row[name] for name in row} for row in frame.to_dict("records")]
    batch = validators(10**4, "accept", 10**6, 10**6)(signature).validate(records)
    found, wanted = bulk.run(batch, signature.defaults), graph.run(batch, signature.defaults)
    for output in signature.defaults:
        np.testing.assert_array_equal(found[output], wanted[output])
