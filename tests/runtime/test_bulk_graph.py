"""Ensembles of trees for large batches: every answer equals the graph's in ONNX Runtime, to the last bit."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from app.errors import InvalidRepository
from app.packing.graph import compile_graph
from app.packing.infer import infer
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.runtime import bit_trees, tree_sums
from app.runtime.bulk_graph import BulkGraph, bulk_graph
from app.runtime.graph import GraphServable, session_of
from app.runtime.large_batches import LargeBatches
from app.runtime.onnx_messages import array_of, fields_of, message_of
from app.signature.batch import Batch, Coded
from app.signature.validator import Validator
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
    "more inputs than have names in the graph": (
        RandomForestClassifier(9, random_state=0), np.tile(MATRIX, 5)[:, :20], CLASSES,
    ),
    "means": (ExtraTreesRegressor(20, max_depth=7, random_state=0), MATRIX, NUMBERS),
    "sums for three classes": (GradientBoostingClassifier(n_estimators=8, random_state=0), MATRIX, CLASSES),
    "missing values in the trees": (HistGradientBoostingRegressor(max_iter=15, random_state=0), HOLES, NUMBERS),
    "missing values before them": (
        make_pipeline(SimpleImputer(), RandomForestClassifier(9, random_state=0)), HOLES, CLASSES,
    ),
}  # fmt: skip


def served(model: Any, features: Any, targets: Any, folder: Path) -> tuple[bytes, GraphServable, Any]:
    """Return the graph of a model, its servable, and its signature."""
    artifact = saved(model.fit(features, targets), folder / "model.joblib")
    sample = pd.DataFrame(
        features, columns=getattr(features, "columns", [f"feature{at + 1}" for at in range(features.shape[1])])
    )
    sample.to_csv(folder / "sample.csv", index=False)
    pack(PackRequest(str(artifact), "trees", str(folder / "models"), sample=str(folder / "sample.csv")))
    repository = Repository(folder / "models")
    manifest = repository.manifest("trees", 1)
    assert manifest.graph is not None
    content = (repository.folder("trees", 1) / manifest.graph).read_bytes()
    return content, GraphServable(session_of(content), manifest.signature), manifest.signature


def near_splits(model: Any, features: Any) -> Any:
    """Return rows with training values, and with the numbers on both sides of the splits of the trees."""
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
    for rows in (near_splits(model, features), features[:7], np.tile(features, (30, 1))):
        batch = Batch.of_matrix(rows, signature.names)
        found, wanted = quick.run(batch, signature.defaults), graph.run(batch, signature.defaults)
        for output in signature.defaults:
            np.testing.assert_array_equal(found[output], wanted[output])
            assert found[output].dtype == wanted[output].dtype


def test_rows_that_fall_into_the_same_leaves_are_added_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, features, targets = MODELS["shares of three classes"]
    content, graph, signature = served(model, features, targets, tmp_path)
    quick = bulk_graph(content, graph, signature)
    assert quick is not None
    added: list[int] = []
    add = tree_sums.add_values
    monkeypatch.setattr(tree_sums, "add_values", lambda *given: added.append(given[-1].shape[1]) or add(*given))
    rows = np.tile(features, (30, 1))[RANDOM.permutation(30 * ROWS)]
    found = quick.run(Batch.of_matrix(rows, signature.names), signature.defaults)
    assert sum(added) <= ROWS
    wanted = graph.run(Batch.of_matrix(rows, signature.names), signature.defaults)
    assert all(np.array_equal(found[name], wanted[name]) for name in signature.defaults)
    added.clear()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow")
    without = quick.run(Batch.of_matrix(rows, signature.names), signature.defaults)
    assert sum(added) == len(rows)
    assert all(np.array_equal(found[name], without[name]) for name in signature.defaults)


def with_words(words: Any) -> Any:
    """Return the matrix, with two columns of words."""
    table = pd.DataFrame(MATRIX, columns=[f"feature{at + 1}" for at in range(COLUMNS)])
    return table.assign(word=words, other=np.where(MATRIX[:, 2] > 0, "yes", "no"))


def test_nodes_that_read_words_alone_are_run_once_for_each_row_of_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = with_words(RANDOM.choice(np.array(["a", "b", "c", None], object), ROWS))
    encoded = [("words", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["word", "other"])]
    before = make_pipeline(ColumnTransformer(encoded, remainder="passthrough"), StandardScaler())
    content, graph, signature = served(make_pipeline(before, RandomForestClassifier(9)), table, CLASSES, tmp_path)
    bulk = bulk_graph(content, graph, signature)
    assert bulk is not None
    fed: list[int] = []
    feed = GraphServable.feed
    monkeypatch.setattr(GraphServable, "feed", lambda self, batch: fed.append(batch.rows) or feed(self, batch))
    many = [*map(str, range(ROWS)), "a"]
    for words, of_texts in ((["a", None, "c"], [6]), (["c"], [2]), (many, [])):
        word, other = (
            Coded(np.array(texts, object), RANDOM.integers(len(texts), size=ROWS)) for texts in (words, ["no", "yes"])
        )
        columns = {name: table[name].to_numpy() for name in table} | {"word": word.column(), "other": other.column()}
        found = bulk.run(Batch(columns, ROWS, {"word": word, "other": other}), signature.outputs)
        assert fed == [*of_texts, ROWS]
        wanted = graph.run(Batch(columns, ROWS), signature.outputs)
        assert all(np.array_equal(found[name], wanted[name]) for name in signature.outputs)
        fed.clear()


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


def test_the_first_large_batch_decides_how_large_batches_run(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("error", [InvalidRepository("it was replaced"), ValueError("a graph of another kind")])
def test_a_large_batch_is_run_by_the_graph_if_the_other_evaluation_cannot_be_made(
    error: Exception, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, features, targets = MODELS["votes for three classes"]
    _, graph, signature = served(model, features, targets, tmp_path)
    batch = Batch.of_matrix(near_splits(model, features)[:600], signature.names)

    def read() -> bytes:
        raise error

    servable = LargeBatches(graph, read, signature)
    for _ in range(2):
        found, wanted = servable.run(batch, signature.defaults), graph.run(batch, signature.defaults)
        assert all(np.array_equal(found[output], wanted[output]) for output in signature.defaults)
    assert [record.getMessage() for record in caplog.records] == [f"the graph runs large batches: {error}"]


def test_while_a_batch_decides_only_very_large_ones_wait_for_it(tmp_path: Path) -> None:
    model, features, targets = MODELS["votes for three classes"]
    content, graph, signature = served(model, features, targets, tmp_path)
    begun, may_end = threading.Event(), threading.Event()

    def read() -> bytes:
        begun.set()
        assert may_end.wait(60)
        return content

    servable = LargeBatches(graph, read, signature)
    rows = near_splits(model, features)
    large, very_large = (Batch.of_matrix(rows[:size], signature.names) for size in (600, 9400))
    with ThreadPoolExecutor(2) as threads:
        deciding = threads.submit(servable.run, large, signature.defaults)
        assert begun.wait(60)
        servable.run(large, signature.defaults)
        waiting = threads.submit(servable.run, very_large, signature.defaults)
        with pytest.raises(TimeoutError):
            waiting.result(0.2)
        may_end.set()
        deciding.result(10)
        found, wanted = waiting.result(10), graph.run(very_large, signature.defaults)
    np.testing.assert_array_equal(found["prediction"], wanted["prediction"])


def test_a_graph_that_is_gone_runs_its_large_batches_itself(tmp_path: Path) -> None:
    _, graph, signature = served(*MODELS["means"], tmp_path)

    def read() -> bytes:
        raise InvalidRepository("graph.onnx cannot be read")

    batch = Batch.of_matrix(near_splits(MODELS["means"][0], MATRIX), signature.names)
    servable = LargeBatches(graph, read, signature)
    np.testing.assert_array_equal(
        servable.run(batch, ["prediction"])["prediction"], graph.run(batch, ["prediction"])["prediction"]
    )


def test_ensembles_of_many_nodes_have_shorter_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, features, targets = MODELS["shares of three classes"]
    content, graph, signature = served(model, features, targets, tmp_path)
    monkeypatch.setattr(bit_trees, "SCRATCH_BYTES", 1)
    bulk = bulk_graph(content, graph, signature)
    assert bulk is not None
    batch = Batch.of_matrix(near_splits(model, features)[: 3 * bit_trees.LEAST_ROWS + 5], signature.names)
    found, wanted = (each.run(batch, ["probabilities"])["probabilities"] for each in (bulk, graph))
    np.testing.assert_array_equal(found, wanted)


def test_trees_behind_counted_terms_are_left_to_the_graph(tmp_path: Path) -> None:
    texts = pd.DataFrame({"text": ["good day", "bad day", "so so", "a good one"] * 100})
    model = make_pipeline(
        ColumnTransformer([("terms", CountVectorizer(), "text")]), RandomForestClassifier(5, random_state=0)
    )
    content, graph, signature = served(model, texts, CLASSES, tmp_path)
    batches = LargeBatches(graph, lambda: content, signature)
    batch = Batch({"text": np.array(texts["text"].tolist() * 2, object)}, 800)
    found, wanted = batches.run(batch, signature.defaults), graph.run(batch, signature.defaults)
    assert bulk_graph(content, graph, signature) is None
    assert all(np.array_equal(found[output], wanted[output]) for output in signature.defaults)


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
    batch = Validator(signature, 10**4).validate(records)
    found, wanted = bulk.run(batch, signature.defaults), graph.run(batch, signature.defaults)
    for output in signature.defaults:
        np.testing.assert_array_equal(found[output], wanted[output])
