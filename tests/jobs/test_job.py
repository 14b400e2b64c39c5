"""The files of a run equal the estimator's answers and the answers over HTTP, in all formats."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier

from app import create_app
from app.errors import ModelNotFound, ScoringCancelled, ScoringRefused, TooManyRejects, VersionNotFound
from app.jobs import formats, parts, table_parts
from app.jobs import job as jobs
from app.jobs.job import ScoringJob
from app.jobs.progress import Progress
from app.jobs.run_folder import RunFolder
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.settings import Settings
from app.storage.repository import Repository
from tests.jobs.files import SETTINGS, answers_of, estimator, penguins, read, same, same_as, score, write
from tests.packing.artifacts import saved

ROWS = 500
INPUTS = ("csv", "csv.gz", "csv.zst", "parquet", "arrow", "arrows", "ndjson", "jsonl.gz")
OUTPUTS = ("csv", "csv.gz", "parquet", "arrow", "arrows", "ndjson", "ndjson.zst")


@pytest.fixture
def many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are as small as if the file were large."""
    monkeypatch.setattr(parts, "TEXT_BYTES", 4000)
    monkeypatch.setattr(table_parts, "MOST_ROWS", 90)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return penguins(ROWS)


@pytest.fixture(scope="module")
def wanted(table: pd.DataFrame) -> Any:
    answers = answers_of(estimator("penguins"), table.drop(columns="id"))
    return lambda scored: same(answers, scored)


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


@pytest.mark.slow
def test_folders_name_columns_as_hive_writes_them(table: pd.DataFrame, wanted: Any, tmp_path: Path) -> None:
    for (year, island), some in table.groupby(["year", "island"]):
        folder = tmp_path / "in" / f"year={year}" / f"island={island}"
        folder.mkdir(parents=True)
        write(some.drop(columns=["year", "island"]), folder / "part.parquet")
    (tmp_path / "in" / "_SUCCESS").touch()
    for location in (f"{tmp_path}/in", f"{tmp_path}/in/**/*.parquet"):
        score("penguins", location, tmp_path / "out.parquet", keep=("id", "island"))
        found = read(tmp_path / "out.parquet").astype({"id": int}).sort_values("id").reset_index(drop=True)
        assert found["island"].tolist() == table["island"].tolist()
        wanted(found)


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_classifier_of_several_targets_has_a_column_for_each_class_of_each(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features = pd.DataFrame(random.normal(size=(60, 2)), columns=["a", "b"])
    targets = np.column_stack(
        [np.array(["low", "mid", "high"])[np.arange(60) % 3], np.array(["no", "mid"])[np.arange(60) % 2]]
    )
    fitted = MultiOutputClassifier(LogisticRegression()).fit(features, targets)
    pack(PackRequest(str(saved(fitted, tmp_path / "two.joblib")), "two", str(tmp_path / "models")))
    source, at = write(features, tmp_path / "in.csv"), Settings(models_dir=tmp_path / "models")
    names = [f"probability_{name}" for name in ("0_high", "0_low", "0_mid", "1_mid", "1_no")]
    for output in (tmp_path / "out.csv", tmp_path / "out.parquet", tmp_path / "out.ndjson"):
        score("two", source, output, settings=at)
        found = read(output)
        assert list(found.columns) == ["prediction_0", "prediction_1", *names]
        assert (found.iloc[:, :2].to_numpy() == fitted.predict(features)).all()
        np.testing.assert_allclose(found[names], np.hstack(fitted.predict_proba(features)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("of", "value", "text", "refusing"),
    [
        (pa.string_view(), "a,b", "a,b", ()),
        (pa.dictionary(pa.int8(), pa.large_string()), "a", "a", ()),
        (pa.float16(), 0.5, "0.5", ()),
        (pa.decimal128(30, 2), Decimal("1.50"), "1.50", ()),
        (pa.date32(), date(2026, 1, 2), "2026-01-02", ()),
        (pa.time32("s"), time(1, 2, 3), "01:02:03", ()),
        (pa.duration("s"), timedelta(seconds=5), "5", ()),
        (pa.large_binary(), b"a", '"YQ=="', ()),
        (pa.uuid(), bytes(16), '"AAAAAAAAAAAAAAAAAAAAAA=="', ()),
        (pa.list_(pa.int8()), [1, 2], "[1,2]", ()),
        (pa.map_(pa.string(), pa.int8()), [("a", 1)], "", ("csv", "ndjson")),
        (pa.month_day_nano_interval(), (1, 2, 3), "", ("csv", "ndjson", "parquet")),
    ],
)
def test_kept_columns_of_every_type_are_written_or_refused(
    of: pa.DataType, value: object, text: str, refusing: Sequence[str], table: pd.DataFrame, tmp_path: Path
) -> None:
    rows = pa.Table.from_pandas(table.head(2), preserve_index=False)
    kept = pa.array([value, None], of) if not pa.types.is_dictionary(of) else pa.array(["a", None]).cast(of)
    rows = rows.append_column("kept", kept)
    with pa.ipc.new_stream(tmp_path / "in.arrows", rows.schema) as writer:
        writer.write_table(rows)
    for suffix in ("csv", "ndjson", "parquet", "arrow"):
        output = tmp_path / f"out.{suffix}"
        if suffix in refusing:
            with pytest.raises(ScoringRefused, match=f"has a type that {suffix} does not hold"):
                score("penguins", tmp_path / "in.arrows", output, keep=["kept"])
        else:
            assert score("penguins", tmp_path / "in.arrows", output, keep=["kept"]).rows == 2
    if not refusing:
        assert pd.read_csv(tmp_path / "out.csv", dtype=str)["kept"].fillna("").tolist() == [text, ""]


@pytest.mark.parametrize(
    ("of", "number", "suffix"),
    [(pa.date32(), 10**7, "ndjson"), (pa.timestamp("ms", "No/Where"), 0, "csv"), (pa.timestamp("s"), 2**60, "parquet")],
)
def test_a_kept_value_that_a_format_does_not_hold_is_refused(
    of: pa.DataType, number: int, suffix: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    numbers = pa.array([number] * 2, pa.int32() if of.bit_width == 32 else pa.int64())
    rows = pa.Table.from_pandas(table.head(2), preserve_index=False).append_column("kept", numbers.cast(of))
    with pa.ipc.new_stream(tmp_path / "in.arrows", rows.schema) as writer:
        writer.write_table(rows)
    with pytest.raises(ScoringRefused, match=f"{suffix} does not hold"):
        score("penguins", tmp_path / "in.arrows", tmp_path / f"out.{suffix}", keep=["kept"])


def test_parquet_of_string_views_is_read(table: pd.DataFrame, wanted: Any, tmp_path: Path) -> None:
    rows = pa.Table.from_pandas(table, preserve_index=False)
    at = rows.schema.get_field_index("island")
    pq.write_table(rows.set_column(at, "island", rows["island"].cast(pa.string_view())), tmp_path / "in.parquet")
    score("penguins", tmp_path / "in.parquet", tmp_path / "out.csv", keep=["island"])
    wanted(read(tmp_path / "out.csv"))


@pytest.mark.parametrize("suffix", INPUTS)
@pytest.mark.parametrize("rows", [0, 3])
def test_an_output_without_rows_has_the_columns(rows: int, suffix: str, table: pd.DataFrame, tmp_path: Path) -> None:
    source = write(table.head(rows).assign(island="Mars"), tmp_path / f"in.{suffix}")
    names = ["id", "prediction", *(f"probability_{label}" for label in estimator("penguins").classes_)]
    for output in ("out.csv", "out.parquet", "out.arrow", "out/"):
        scored = score("penguins", source, f"{tmp_path}/{output}", keep=["id"])
        assert (scored.rows, scored.rejected) == (rows, rows)
        if output != "out/":
            assert list(read(tmp_path / output).columns) == names
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert found["prediction"].dtype == "str"
    assert found["probability_Adelie"].dtype == float
    if suffix in ("parquet", "arrow", "arrows"):
        assert found["id"].dtype == int


@pytest.mark.slow
def test_a_header_is_written_once_if_the_first_parts_have_no_good_row(
    table: pd.DataFrame, many_parts: None, tmp_path: Path
) -> None:
    wrong = table.copy()
    wrong.loc[:200, "island"] = "Mars"
    source = write(wrong, tmp_path / "in.csv")
    for output in ("out.csv", "out.parquet"):
        score("penguins", source, tmp_path / output, keep=["id"])
        assert read(tmp_path / output)["id"].astype(int).tolist() == list(range(201, ROWS))


# --- rejects

BAD = [
    {"island": "Mars", "sex": "male"},
    {"bill_length_mm": "long"},
    {"year": 2007.5},
    {"body_mass_g": 1e39},
    {"flipper_length_mm": True},
]


@pytest.mark.slow
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


def test_columns_that_the_model_does_not_know_are_no_errors_of_a_row(tmp_path: Path) -> None:
    others = {f"x{at}": at for at in range(300)}
    lines = [{"feature1": 1, **others}, {"feature1": 1, "feature2": 2, **others}]
    (tmp_path / "in.ndjson").write_text("\n".join(map(json.dumps, lines)))
    scored = score("iris-two", tmp_path / "in.ndjson", tmp_path / "out.csv")
    [reject] = [json.loads(line) for line in Path(scored.rejects).read_text().splitlines()]
    assert [(each["pointer"], each["detail"].partition(":")[0]) for each in reject["errors"]] == [
        ("#/feature2", "is missing")
    ]


def test_too_many_rejects_end_the_run_and_a_higher_limit_goes_on(
    table: pd.DataFrame, many_parts: None, tmp_path: Path
) -> None:
    wrong = table.copy()
    wrong.loc[[100, 200, len(wrong) - 1], "island"] = "Mars"
    source = write(wrong, tmp_path / "in.csv")
    with pytest.raises(TooManyRejects, match="2 rows were rejected, more than the limit of 1") as error:
        score("penguins", source, tmp_path / "out.csv", max_rejects=1)
    assert Path(error.value.rejects).read_text().count("\n") == 2
    for limit in (1, 2, 2):  # the second time, all parts are finished
        with pytest.raises(TooManyRejects, match=f"{limit + 1} rows were rejected, more than the limit of {limit}"):
            score("penguins", source, tmp_path / "out.csv", max_rejects=limit, resume=True)
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
    cut = write(table, tmp_path / "cut.arrows")
    cut.write_bytes(cut.read_bytes()[:-300])
    for model, location, output, options, reason in [
        ("penguins", source, "out.csv", {}, "lacks the model's features sex, year"),
        ("penguins", whole, "out.csv", {"keep": ["name"]}, "lacks the kept columns name; its columns"),
        ("penguins", whole, "out.txt", {}, "must end in one of"),
        ("penguins", whole, "whole.csv", {}, "is the input"),
        ("penguins", whole, "no/out.csv", {}, f"out.csv cannot be written: there is no folder {tmp_path}/no$"),
        ("penguins", whole, "folder.csv", {}, "is a folder"),
        ("penguins", tmp_path / "none.csv", "out.csv", {}, "there is no such file"),
        ("iris-two", tmp_path / "latin.csv", "out.csv", {}, "is not UTF-8"),
        ("iris-two", tmp_path / "cut.parquet", "out.csv", {}, "cannot be read"),
        ("iris-two", tmp_path / "cut.csv.gz", "out.csv", {}, "not whole"),
        ("penguins", cut, "out.csv", {}, "cannot be read"),
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
    assert left == {"in.csv", "whole.csv", "latin.csv", "cut.parquet", "cut.csv.gz", "cut.arrows", "folder.csv"}


@pytest.mark.slow
@pytest.mark.parametrize("location", ["year=2007", "year=2007/", "year=2007/*/*.csv", "year=2007/island=D*"])
def test_folders_in_the_location_itself_name_columns_too(table: pd.DataFrame, tmp_path: Path, location: str) -> None:
    folder = tmp_path / "year=2007" / "island=Dream"
    folder.mkdir(parents=True)
    rows = table.drop(columns=["year", "island"])
    write(rows, folder / "rows.csv")
    score("penguins", tmp_path / location, tmp_path / "out.csv", keep=["island", "year"])
    found = read(tmp_path / "out.csv")
    assert (found["island"] == "Dream").all()
    assert (found["year"] == 2007).all()
    same_as(estimator("penguins"), rows.assign(island="Dream", year=2007)[table.columns].drop(columns="id"), found)


def test_places_that_are_no_files_are_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    source = write(table, tmp_path / "in.csv")
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for location, output, reason in [
        (tmp_path / "pipe.csv", tmp_path / "out.csv", "is neither a file nor a folder"),
        ("", tmp_path / "out.csv", "there is no such file"),
        (source, "", "must end in one of"),
        (source, "/", "is there already"),
        (source, tmp_path, "is a folder; with a slash at its end"),
        (source, tmp_path / "csv", "must end in one of"),
        (folder, tmp_path / "out.csv", "there is no file in this folder"),
        (folder, folder / "out.csv", "there is no file in this folder"),
        (source, "file:///tmp/out.csv", "URLs begin with s3://"),
        ("s3://", tmp_path / "out.csv", "and the name of a bucket"),
    ]:
        with pytest.raises(ScoringRefused, match=reason):
            score("penguins", location, output)
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "pipe.csv", "folder"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", "/"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_symbolic_link_stays_and_what_it_names_is_written(
    is_there: bool, suffix: str, table: pd.DataFrame, many_parts: None, tmp_path: Path
) -> None:
    table = table.assign(island=["Mars", *table["island"][1:]])
    (tmp_path / "other").mkdir()
    target, link = (tmp_path / name / f"out{suffix}" for name in ("other", ""))
    link.symlink_to(target)
    if is_there:
        target.mkdir() if suffix == "/" else target.touch()
    source, output, seen = write(table, tmp_path / "in.csv"), f"{tmp_path}/out{suffix}", list[Progress]()
    job = ScoringJob("penguins", None, str(source), output, resume=True, settings=SETTINGS, processes=1)
    with pytest.raises(ScoringCancelled):
        job.run(seen.append, lambda: len(seen) == 3)
    rejects = job.run().rejects
    assert link.is_symlink()
    assert len(read(target)) == ROWS - 1
    assert Path(rejects).samefile(tmp_path / "other" / f"out{suffix.strip('/')}.rejects.ndjson")
    assert {path.name for path in target.parent.iterdir()} == {target.name, Path(rejects).name}


@pytest.mark.parametrize("output", ["out.csv", "new/", "../in/out.csv"])
def test_an_output_in_the_folder_of_the_input_is_refused(table: pd.DataFrame, tmp_path: Path, output: str) -> None:
    (tmp_path / "in").mkdir()
    write(table, tmp_path / "in" / "rows.csv")
    with pytest.raises(ScoringRefused, match=r"lies in the input, .*: the next run would read it"):
        score("penguins", tmp_path / "in", f"{tmp_path}/in/{output}")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("written", "named", "message"),
    [
        ("in.csv.gz", "in.csv", ".csv, but the content is gzip"),
        ("in.csv.zst", "in.ndjson", ".ndjson, but the content is zstd"),
        ("in.parquet", "in.csv", ".csv, but the content is Parquet"),
        ("in.arrow", "in.csv.gz", ""),
        ("in.arrow", "in.jsonl", ".ndjson, but the content is Arrow"),
        ("in.arrow", "in.parquet", ".parquet, but the content is Arrow"),
        ("in.parquet", "in.arrow", ".arrow, but the content is Parquet"),
        ("in.csv.gz", "in.arrows", ".arrows, but the content is gzip"),
        ("in.csv", "in.parquet", ".parquet, but the content is something else"),
        ("in.csv", "in.feather", ".arrow, but the content is something else"),
    ],
)
def test_content_of_another_format_than_the_name_says_is_refused(
    table: pd.DataFrame, tmp_path: Path, written: str, named: str, message: str
) -> None:
    write(table, tmp_path / written).rename(tmp_path / named)
    with pytest.raises(ScoringRefused, match=f"{named}: the name says {message}$" if message else "no gzip"):
        score("penguins", tmp_path / named, tmp_path / "out.csv")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_table_file_without_content_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"in{suffix}").touch()
    with pytest.raises(
        ScoringRefused, match=f"in{suffix}: the file is empty; a {suffix} file without rows still has col"
    ):
        score("penguins", tmp_path / f"in{suffix}", tmp_path / "out.csv")


def test_text_in_utf_16_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "in.csv", index=False, encoding="utf-16")
    with pytest.raises(ScoringRefused, match=r"but the content is text in UTF-16, not in UTF-8$"):
        score("penguins", tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("id,feature1,feature2 ", "lacks the model's features feature2; its columns are: id, feature1, 'feature2 '"),
        (
            "length,width",
            "lacks the model's features feature1, feature2; its columns, by its first row, are: length, width",
        ),
        ("1,5.1,3.5", "lacks the model's features feature1, feature2; its columns, by its first row, are: 1, 5.1, 3.5"),
    ],
)
def test_columns_with_similar_names_are_quoted(tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "in.csv").write_text(f"{header}\n1,5.1,3.5\n")
    with pytest.raises(ScoringRefused, match=re.escape(message)):
        score("iris-two", tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_file_with_another_separator_is_refused(table: pd.DataFrame, tmp_path: Path, mark: str) -> None:
    table.to_csv(tmp_path / "in.csv", sep=mark, index=False)
    with pytest.raises(ScoringRefused, match=rf"separated by commas, and these are by {re.escape(repr(mark))}$"):
        score("penguins", tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_folder_that_may_not_be_read_is_not_left_out(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("open", "locked"):
        (tmp_path / "in" / name).mkdir(parents=True)
        write(table.head(10), tmp_path / "in" / name / "rows.csv")
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ScoringRefused, match="in/locked: Permission denied"):
        score("penguins", tmp_path / "in", tmp_path / "out.csv")


def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_room(
    table: pd.DataFrame, many_parts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, append, written = write(table, tmp_path / "in.csv"), RunFolder._append, []

    def fill(folder: RunFolder, name: str, content: bytes) -> None:
        written.append(name)
        if len(written) > 9:
            raise OSError(28, "No space left on device")
        append(folder, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "_append", fill)
        with pytest.raises(ScoringRefused, match=r"No space left on device; .* with --resume goes on$"):
            score("penguins", source, tmp_path / "out.csv")
    score("penguins", source, tmp_path / "out.csv", resume=True)
    assert len(read(tmp_path / "out.csv")) == ROWS


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
    said = "since it began, the options changed (--keep was '', is 'id'); without --resume it begins anew"
    with pytest.raises(ScoringRefused, match=re.escape(said)):
        job.run()
    job.keep = []
    job.settings = replace(SETTINGS, out_of_range="reject")
    write(table.head(400), source)
    said = f"the input changed ({source}) and the settings changed (out_of_range was 'ignore', is 'reject');"
    with pytest.raises(ScoringRefused, match=re.escape(said)):
        job.run()
    job.settings = SETTINGS
    job.resume = False
    assert job.run().rows == 400


def test_a_run_is_not_resumed_with_another_version(table: pd.DataFrame, many_parts: None, tmp_path: Path) -> None:
    shutil.copytree(SETTINGS.models_dir / "penguins", tmp_path / "models" / "penguins")
    at, source = Settings(models_dir=tmp_path / "models"), write(table, tmp_path / "in.csv")
    job = ScoringJob("penguins", None, str(source), str(tmp_path / "out.csv"), settings=at, processes=1)
    with pytest.raises(ScoringCancelled):
        job.run(is_cancelled=lambda: True)
    repository = Repository(at.models_dir)
    with repository.staging() as staged:
        shutil.copytree(repository.folder("penguins", 1), staged, dirs_exist_ok=True)
        repository.publish(staged, repository.manifest("penguins", 1))
    job.resume = True
    said = "since it began, the model changed (version was 1, is 2, content); without --resume it begins anew"
    with pytest.raises(ScoringRefused, match=re.escape(said)):
        job.run()
    job.version = "1"
    assert job.run().rows == ROWS


def test_another_release_does_not_go_on_with_a_run(
    table: pd.DataFrame, many_parts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ScoringJob("penguins", None, str(write(table, tmp_path / "in.csv")), f"{tmp_path}/out.csv", settings=SETTINGS)
    with pytest.raises(ScoringCancelled):
        job.run(is_cancelled=lambda: True)
    job.resume = True
    monkeypatch.setattr(jobs, "__version__", "0.0.9")  # it may cut the input into other parts
    with pytest.raises(ScoringRefused, match="since it began, the release of Retort changed"):
        job.run()


@pytest.mark.parametrize("change", ["appended", "replaced", "removed"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_that_changes_while_it_is_read_ends_the_run(
    change: str, suffix: str, table: pd.DataFrame, many_parts: None, tmp_path: Path
) -> None:
    source = write(table, tmp_path / f"in.{suffix}")

    def alter(progress: Progress) -> None:
        if not progress.rows:
            return
        if change == "appended":
            with source.open("ab") as stream:
                stream.write(b"\n")
        elif change == "replaced":
            write(table.head(40), tmp_path / f"other.{suffix}").replace(source)
        else:
            source.unlink(missing_ok=True)

    job = ScoringJob("penguins", None, str(source), f"{tmp_path}/out.csv", settings=SETTINGS, processes=1)
    with pytest.raises(ScoringRefused, match="changed while it was read"):
        job.run(alter)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_text_is_scored_without_pyarrow(
    table: pd.DataFrame, wanted: Any, many_parts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(table, tmp_path / "in.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert not formats.has_pyarrow()
    score("penguins", source, tmp_path / "out.csv", keep=["id"])
    score("penguins", source, tmp_path / "all.csv")
    with pytest.raises(ScoringRefused, match=r"pip install pyarrow"):
        score("penguins", source, tmp_path / "out.parquet")
    monkeypatch.undo()
    found = read(tmp_path / "out.csv")
    wanted(found)
    assert found["id"].tolist() == table["id"].tolist()
    wanted(read(tmp_path / "all.csv"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(many_parts: None, tmp_path: Path) -> None:
    peaks = []
    for rows in (800, 800, 8000):  # the first run loads modules
        source = write(penguins(rows), tmp_path / "in.parquet")
        tracemalloc.start()
        score("penguins", source, tmp_path / "out.csv", keep=["id"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]
