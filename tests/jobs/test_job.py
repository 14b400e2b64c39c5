"""The files that a run writes: equal to the estimator's answers and to those over HTTP, whatever the formats."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from app import create_app
from app.errors import ModelNotFound, ScoringCancelled, ScoringRefused, TooManyRejects, VersionNotFound
from app.jobs import formats, parts
from app.jobs.job import ScoringJob
from app.jobs.progress import Progress
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.settings import Settings
from app.storage.repository import Repository
from tests.jobs.files import SETTINGS, estimator, penguins, read, same_as, score, write
from tests.packing.artifacts import saved

ROWS = 500
INPUTS = ("csv", "csv.gz", "csv.zst", "parquet", "arrow", "arrows", "ndjson", "jsonl.gz")
OUTPUTS = ("csv", "csv.gz", "parquet", "arrow", "arrows", "ndjson", "ndjson.zst")


@pytest.fixture
def many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are as small as they would be many in a large file."""
    monkeypatch.setattr(parts, "TEXT_BYTES", 4000)
    monkeypatch.setattr(parts, "MOST_ROWS", 90)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return penguins(ROWS)


@pytest.fixture(scope="module")
def wanted(table: pd.DataFrame) -> Any:
    model = estimator("penguins")
    return lambda scored: same_as(model, table.drop(columns="id"), scored)


@pytest.mark.parametrize("suffix", INPUTS)
def test_every_format_of_input_gives_the_predictions_of_the_estimator(
    suffix: str, table: pd.DataFrame, wanted: Any, many_parts: None, tmp_path: Path
) -> None:
    source = write(table, tmp_path / f"penguins.{suffix}")
    scored = score("penguins", source, tmp_path / "out.csv", keep=("id", "island"))
    assert (scored.rows, scored.rejected, scored.rejects) == (ROWS, 0, "")
    found = read(tmp_path / "out.csv")
    wanted(found)
    assert found["id"].tolist() == table["id"].tolist()
    assert found["island"].tolist() == table["island"].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", source.name]


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_every_format_of_output_has_the_same_columns(
    suffix: str, table: pd.DataFrame, wanted: Any, many_parts: None, tmp_path: Path
) -> None:
    source = write(table, tmp_path / "penguins.parquet")
    score("penguins", source, tmp_path / f"out.{suffix}", keep=["id"])
    found = read(tmp_path / f"out.{suffix}")
    probabilities = [f"probability_{name}" for name in ("Adelie", "Chinstrap", "Gentoo")]
    assert list(found.columns) == ["id", "prediction", *probabilities]
    assert found["id"].tolist() == table["id"].tolist()
    wanted(found)


def test_a_folder_gets_a_file_for_each_part(table: pd.DataFrame, wanted: Any, many_parts: None, tmp_path: Path) -> None:
    source = write(table, tmp_path / "penguins.parquet")
    score("penguins", source, f"{tmp_path}/out/")
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [f"part-0000{at}.parquet" for at in range(6)]
    wanted(read(tmp_path / "out"))
    with pytest.raises(ScoringRefused, match="is there already"):
        score("penguins", source, f"{tmp_path}/out/")


def test_folders_name_columns_as_hive_writes_them(table: pd.DataFrame, wanted: Any, tmp_path: Path) -> None:
    model = estimator("penguins")
    for (year, island), some in table.groupby(["year", "island"]):
        folder = tmp_path / "in" / f"year={year}" / f"island={island}"
        folder.mkdir(parents=True)
        write(some.drop(columns=["year", "island"]), folder / "part.parquet")
    (tmp_path / "in" / "_SUCCESS").touch()
    for location in (f"{tmp_path}/in", f"{tmp_path}/in/**/*.parquet"):
        score("penguins", location, tmp_path / "out.parquet", keep=("id", "island"))
        found = read(tmp_path / "out.parquet").astype({"id": int}).sort_values("id").reset_index(drop=True)
        assert found["island"].tolist() == table["island"].tolist()
        same_as(model, table.drop(columns="id"), found)


@pytest.mark.parametrize("model", ["diabetes", "digits", "iris-two"])
def test_other_models_answer_as_their_estimators(model: str, many_parts: None, tmp_path: Path) -> None:
    manifest = Repository(SETTINGS.models_dir).manifest(model, 1)
    random = np.random.default_rng(1)
    numbers = {spec.name: random.uniform(0, 10, 200).round(3) for spec in manifest.signature.inputs}
    features = pd.DataFrame(numbers)
    source = write(features, tmp_path / "in.csv")
    scored = score(model, source, tmp_path / "out.parquet")
    assert scored.rejected == 0
    fitted = estimator(model)
    same_as(
        fitted,
        features if hasattr(fitted, "feature_names_in_") else features.to_numpy(),
        read(tmp_path / "out.parquet"),
    )


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_several_targets_has_a_column_for_each(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features = pd.DataFrame(random.normal(size=(50, 3)), columns=["a", "b", "c"])
    fitted = LinearRegression().fit(features, features.to_numpy() @ random.normal(size=(3, 2)))
    artifact = saved(fitted, tmp_path / "two.joblib")
    pack(PackRequest(str(artifact), "two", str(tmp_path / "models")))
    source = write(features, tmp_path / "in.parquet")
    score("two", source, tmp_path / "out.csv", settings=Settings(models_dir=tmp_path / "models"))
    found = read(tmp_path / "out.csv")
    assert list(found.columns) == ["prediction_0", "prediction_1"]
    np.testing.assert_allclose(found, fitted.predict(features), rtol=1e-9, atol=1e-12)


# --- rejects

BAD = [
    {"island": "Mars", "sex": "male"},
    {"bill_length_mm": "long"},
    {"year": 2007.5},
    {"body_mass_g": 1e39},
    {"flipper_length_mm": True},
]


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_bad_rows_are_rejected_in_the_words_of_http(
    suffix: str, table: pd.DataFrame, many_parts: None, tmp_path: Path
) -> None:
    records = json.loads(table.to_json(orient="records"))
    for at, changes in enumerate(BAD):
        records[7 + 40 * at] |= changes
    source = tmp_path / f"in.{suffix}"
    if suffix == "csv":
        pd.DataFrame(records, dtype=object).to_csv(source, index=False)
    else:
        source.write_text("\n\n".join(map(json.dumps, records)) + "\n")
    scored = score("penguins", source, tmp_path / "out.csv", keep=["id"])
    assert (scored.rows, scored.rejected) == (ROWS, len(BAD))
    assert scored.rejects == f"{tmp_path}/out.csv.rejects.ndjson"
    rejects = [json.loads(line) for line in Path(scored.rejects).read_text().splitlines()]
    lines = [7 + 40 * at for at in range(len(BAD))]
    assert [each["line"] for each in rejects] == [line + 2 if suffix == "csv" else 2 * line + 1 for line in lines]
    found = read(tmp_path / "out.csv")
    assert found["id"].tolist() == [at for at in range(ROWS) if at not in lines]
    client = create_app(SETTINGS).test_client()
    for reject, line in zip(rejects, lines, strict=True):
        body = {name: value for name, value in records[line].items() if name != "id"}
        refusal: Any = client.post("/models/penguins/predict", json=body).json
        if suffix == "ndjson":
            assert (reject["detail"], reject["errors"]) == (refusal["detail"], refusal["errors"])
        else:
            assert [each["pointer"] for each in reject["errors"]] == [each["pointer"] for each in refusal["errors"]]


def test_rows_of_a_table_are_counted_from_one(table: pd.DataFrame, many_parts: None, tmp_path: Path) -> None:
    wrong = table.copy()
    wrong.loc[[0, 333], "island"] = "Mars"
    wrong.loc[334, "body_mass_g"] = np.inf
    score("penguins", write(wrong, tmp_path / "in.parquet"), tmp_path / "out.parquet", keep=["id"])
    rejects = [json.loads(line) for line in (tmp_path / "out.parquet.rejects.ndjson").read_text().splitlines()]
    assert [each["row"] for each in rejects] == [1, 334, 335]
    assert rejects[0]["errors"] == [
        {"pointer": "#/island", "detail": "must be one of: Biscoe, Dream, Torgersen", "value": "Mars"}
    ]
    assert "must be a finite number" in rejects[2]["errors"][0]["detail"]
    found = read(tmp_path / "out.parquet")
    same_as(estimator("penguins"), table.drop(columns="id").drop([0, 333, 334]), found)


def test_lines_that_are_no_rows_are_rejected(tmp_path: Path) -> None:
    lines = ["feature1,feature2,note", "1,2,a", "1,2", "", '5.1,3.5,"two', 'lines"', "x,2,b", "5,3,c,d", "4,3,e"]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    scored = score("iris-two", tmp_path / "in.csv", tmp_path / "out.csv", keep=["note"])
    rejects = [json.loads(line) for line in Path(scored.rejects).read_text().splitlines()]
    assert [(each["line"], each["detail"]) for each in rejects] == [
        (3, "has 2 cells; the header has 3"),
        (7, "1 value is not acceptable"),
        (8, "has 4 cells; the header has 3"),
    ]
    assert read(tmp_path / "out.csv")["note"].tolist() == ["a", "two\nlines", "e"]


def test_too_many_rejects_end_the_run_and_a_higher_limit_goes_on(
    table: pd.DataFrame, many_parts: None, tmp_path: Path
) -> None:
    wrong = table.copy()
    wrong.loc[[100, 200, 300], "island"] = "Mars"
    source = write(wrong, tmp_path / "in.csv")
    with pytest.raises(TooManyRejects, match="2 rows were rejected, more than the limit of 1") as error:
        score("penguins", source, tmp_path / "out.csv", max_rejects=1)
    assert Path(error.value.rejects).read_text().count("\n") == 2
    assert not (tmp_path / "out.csv").exists()
    scored = score("penguins", source, tmp_path / "out.csv", max_rejects=3, resume=True)
    assert (scored.rows, scored.rejected) == (ROWS, 3)


# --- refusals, progress


def test_files_that_cannot_be_scored_are_refused_before_anything_is_written(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    source = write(table.drop(columns=["year", "sex"]), tmp_path / "in.csv")
    whole = write(table, tmp_path / "whole.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "latin.csv").write_bytes("feature1,feature2,é\n1,2,3\n".encode("latin-1"))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more PAR1")
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\x00 and no more")
    for model, location, output, options, reason in [
        ("penguins", source, "out.csv", {}, "lacks the model's features sex, year"),
        ("penguins", whole, "out.csv", {"keep": ["name"]}, "lacks columns to keep name"),
        ("penguins", whole, "out.txt", {}, "must end in one of"),
        ("penguins", whole, "whole.csv", {}, "is the input"),
        ("penguins", whole, "no/out.csv", {}, "no such folder"),
        ("penguins", whole, "folder.csv", {}, "is a folder"),
        ("penguins", tmp_path / "none.csv", "out.csv", {}, "there is no such file"),
        ("iris-two", tmp_path / "latin.csv", "out.csv", {}, "is not UTF-8"),
        ("iris-two", tmp_path / "cut.parquet", "out.csv", {}, "cannot be read"),
        ("iris-two", tmp_path / "cut.csv.gz", "out.csv", {}, "not whole"),
        ("penguins", whole, "out.csv", {"engine": "spark"}, "there is no engine"),
        ("penguins", whole, "out.csv", {"cluster": "tcp://127.0.0.1:1"}, "needs --engine dask"),
    ]:
        with pytest.raises(ScoringRefused, match=reason):
            score(model, location, tmp_path / output, **options)
    with pytest.raises(ModelNotFound):
        score("penguin", whole, tmp_path / "out.csv")
    with pytest.raises(VersionNotFound, match="there are: 1"):
        ScoringJob("penguins", "2", str(whole), str(tmp_path / "out.csv"), settings=SETTINGS).run()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"in.csv", "whole.csv", "latin.csv", "cut.parquet", "cut.csv.gz", "folder.csv"}


def test_progress_counts_and_a_cancelled_run_can_be_resumed(
    table: pd.DataFrame, wanted: Any, many_parts: None, tmp_path: Path
) -> None:
    source = write(table, tmp_path / "in.csv")
    seen: list[Progress] = []
    job = ScoringJob("penguins", None, str(source), str(tmp_path / "out.csv"), settings=SETTINGS, processes=1)
    with pytest.raises(ScoringCancelled):
        job.run(seen.append, lambda: len(seen) == 4)
    assert [each.parts_done for each in seen] == [0, 1, 2, 3]
    assert [each.rows for each in seen] == sorted({each.rows for each in seen})
    assert 0 < seen[-1].fraction < 1
    assert seen[-1].parts is not None
    assert seen[-1].parts > 3
    assert seen[-1].rows_per_s > 0
    assert seen[-1].left_s is not None
    earlier, job.resume = seen[-1].rows, True
    scored = job.run(seen.append)
    assert seen[4].rows == seen[4].earlier_rows == earlier
    assert (seen[-1].fraction, seen[-1].rows, scored.rows) == (1.0, ROWS, ROWS)
    wanted(read(tmp_path / "out.csv"))


def test_a_resumed_run_must_be_the_same(table: pd.DataFrame, many_parts: None, tmp_path: Path) -> None:
    source = write(table, tmp_path / "in.csv")
    job = ScoringJob("penguins", None, str(source), str(tmp_path / "out.csv"), settings=SETTINGS, processes=1)
    with pytest.raises(ScoringCancelled):
        job.run(is_cancelled=lambda: True)
    job.resume, job.keep = True, ["id"]
    with pytest.raises(ScoringRefused, match="since it began, the options changed; without --resume it begins anew"):
        job.run()
    job.keep = []
    write(table.head(400), source)
    with pytest.raises(ScoringRefused, match="since it began, the input changed"):
        job.run()
    job.resume = False
    assert job.run().rows == 400


def test_without_pyarrow_text_is_scored_all_the_same(
    table: pd.DataFrame, wanted: Any, many_parts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(table, tmp_path / "in.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert not formats.has_pyarrow()
    score("penguins", source, tmp_path / "out.csv", keep=["id"])
    with pytest.raises(ScoringRefused, match=r"pip install 'retort-serving\[parquet\]'"):
        score("penguins", source, tmp_path / "out.parquet")
    monkeypatch.undo()
    found = read(tmp_path / "out.csv")
    wanted(found)
    assert found["id"].tolist() == table["id"].tolist()
