"""Packing from an artifact to a version, in this process: its files, and its refusals in one sentence."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from app.core.catalogue import describe
from app.errors import PackingRefused
from app.packing import timing
from app.packing.serve import check, serve
from app.packing.spawn import CheckRequest, PackRequest, Result, ServeRequest
from app.packing.timing import written
from app.packing.write import pack
from app.runtime.environment import environment
from app.storage import manifest as manifests
from app.storage.manifest import RECORDED, Manifest, Recorded, read_recorded, write_recorded
from app.storage.repository import Repository
from app.storage.verification import sha256_of, verify_files
from tests.packing.artifacts import AlwaysFailing, Reduced, flowers, saved
from tests.skops_files import skops_dump

# Packing ignores warnings in its own process; here it runs in this process.
pytestmark = pytest.mark.filterwarnings("ignore")

FRAME = flowers()
FEATURES, SPECIES = FRAME[["length", "petals", "colour"]], FRAME["species"]
TWO = LogisticRegression().fit([[0.0, 1.0], [4.0, 5.0], [1.0, 0.0], [6.0, 4.0]], [0, 1, 0, 1])


def flower_model() -> Any:
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["length", "petals"]),
            ("words", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["colour"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression()).fit(FEATURES, SPECIES)


def colour_model() -> Any:
    """Fit a model of the colour alone, which packs faster than one of all features."""
    return make_pipeline(OneHotEncoder(), LogisticRegression()).fit(FEATURES[["colour"]], SPECIES)


def hundredfold(frame: Any) -> Any:
    return frame * np.int8(100)


def numbered_by_index(frame: Any) -> Any:
    return frame * 0 + frame.index.to_numpy().reshape(-1, 1)


class Workspace:
    """A folder with artifacts and samples beside a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository(folder / "models")

    def pack(self, artifact: Path, name: str = "flowers", **facts: Any) -> Result:
        return pack(PackRequest(str(artifact), name, str(self.repository.root), **facts))

    def packed(self, model: object, **facts: Any) -> Manifest:
        result = self.pack(saved(model, self.folder / "model.joblib"), **facts)
        assert result.version is not None
        return self.repository.manifest("flowers", result.version)

    def refusal(self, artifact: Path | object, **facts: Any) -> str:
        path = artifact if isinstance(artifact, Path) else saved(artifact, self.folder / "model.joblib")
        with pytest.raises(PackingRefused) as caught:
            self.pack(path, **facts)
        assert not self.repository.root.exists() or list(self.repository.root.iterdir()) == []
        assert "\n" not in caught.value.detail
        return caught.value.detail

    def sample(self, frame: pd.DataFrame, name: str = "sample.csv") -> str:
        path = self.folder / name
        {".csv": lambda: frame.to_csv(path, index=False), ".parquet": lambda: frame.to_parquet(path)}[path.suffix]()
        return str(path)


def packed_flowers(workspace: Workspace, **facts: Any) -> Result:
    return workspace.pack(saved(flower_model(), workspace.folder / "model.joblib"), **facts)


def packed_with_a_target(workspace: Workspace) -> Result:
    sample = workspace.sample(FEATURES.assign(species=SPECIES))
    artifact = saved(flower_model(), workspace.folder / "my model.joblib")
    return workspace.pack(artifact, sample=sample, target="species")


def packed_two(workspace: Workspace, **facts: Any) -> Result:
    return workspace.pack(saved(TWO, workspace.folder / "model.joblib"), **facts)


PACKED: dict[str, Callable[[Workspace], Result]] = {
    "flowers": lambda workspace: packed_flowers(workspace, sample=workspace.sample(FEATURES)),
    "flowers without a sample": packed_flowers,
    "flowers with a target": packed_with_a_target,
    "flowers without a graph": lambda workspace: packed_flowers(
        workspace, sample=workspace.sample(FEATURES), graph_limit_bytes=0
    ),
    "two": packed_two,
    "two without a graph": lambda workspace: packed_two(workspace, graph_limit_bytes=0),
}
"""Versions that several tests look at."""

Once = Callable[[str], tuple[Workspace, Result]]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Pack a version of PACKED when a test first asks for it. Change only a copy of it."""

    @cache
    def packed(name: str) -> tuple[Workspace, Result]:
        workspace = Workspace(tmp_path_factory.mktemp("once"))
        return workspace, PACKED[name](workspace)

    return packed


@pytest.fixture
def copied(once: Once, workspace: Workspace) -> Callable[[str], Workspace]:
    """Copy a version of PACKED into the test's own workspace."""

    def copy(name: str) -> Workspace:
        shutil.copytree(once(name)[0].repository.root, workspace.repository.root)
        return workspace

    return copy


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.mark.slow
def test_a_version_has_everything_that_serving_needs(once: Once) -> None:
    workspace, result = once("flowers with a target")
    artifact = workspace.folder / "my model.joblib"
    assert result.version == 1
    manifest = workspace.repository.manifest("flowers", 1)
    folder = workspace.repository.folder("flowers", 1)
    assert (folder / manifest.artifact).read_bytes() == artifact.read_bytes()
    assert set(manifest.files) == {path.name for path in folder.iterdir()} - {"manifest.json", "manifest.sha256"}
    verify_files(folder, manifest)
    assert (manifest.task, manifest.format, manifest.examples_made_up) == ("classifier", "joblib", False)
    assert manifest.estimator == "Pipeline(ColumnTransformer, LogisticRegression)"
    assert manifest.environment == environment()
    assert manifest.signature.names == ("length", "petals", "colour")
    assert check(CheckRequest("flowers", 1, str(workspace.repository.root))) == Result(version=1)


@pytest.mark.slow
def test_the_examples_are_rows_of_the_sample_with_the_predictions_of_the_model(once: Once) -> None:
    model = flower_model()
    manifest = once("flowers")[0].repository.manifest("flowers", 1)
    assert 1 < len(manifest.examples) <= 5
    rows = pd.DataFrame([example.instance for example in manifest.examples])
    assert [example.outputs["prediction"] for example in manifest.examples] == model.predict(rows).tolist()
    assert [example.outputs["probabilities"] for example in manifest.examples] == model.predict_proba(rows).tolist()
    # The last example has a missing value, since the sample has some.
    assert None in manifest.examples[-1].instance.values()


@pytest.mark.slow
def test_without_a_sample_the_examples_are_made_up_and_marked_so(once: Once) -> None:
    workspace, result = once("flowers without a sample")
    manifest = workspace.repository.manifest("flowers", 1)
    assert manifest.examples_made_up
    assert manifest.examples
    assert (result.version, any("--sample" in remark for remark in result.remarks)) == (1, True)


@pytest.mark.slow
def test_the_remarks_tell_what_was_inferred(once: Once) -> None:
    remarks = once("flowers")[1].remarks
    length, petals = FEATURES["length"], FEATURES["petals"]
    assert remarks[0] == "classifier: Pipeline(ColumnTransformer, LogisticRegression)"
    assert f"input length: number, {length.min():.6g} to {length.max():.6g} seen, may be missing" in remarks
    assert f"input petals: integer, {petals.min()} to {petals.max()} seen, may be missing" in remarks
    assert "input colour: category, one of blue, green, red, may be missing" in remarks


@pytest.mark.slow
@pytest.mark.parametrize("wish", ["warn", "accept"])
def test_an_option_without_effect_gets_a_remark(workspace: Workspace, wish: str) -> None:
    artifact = saved(colour_model(), workspace.folder / "model.joblib")
    result = workspace.pack(artifact, sample=workspace.sample(FEATURES[["colour"]]), unseen=wish)
    assert [remark for remark in result.remarks if "--unseen" in remark] == [
        f"--unseen {wish} changes nothing for colour: the model fails on values that it has never seen, so they stay "
        "refused (its encoder decides, by handle_unknown)"
    ]
    assert workspace.repository.manifest("flowers", 1).signature.inputs[0].unseen == "reject"
    (workspace.folder / "inputs.json").write_text(f'[{{"name": "colour", "kind": "category", "unseen": "{wish}"}}]')
    remarks = workspace.pack(artifact, inputs=str(workspace.folder / "inputs.json")).remarks
    assert any(f"{wish} changes nothing for colour" in remark for remark in remarks)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{"unseen": "reject"}, {}], ids=["reject", "nothing"])
def test_what_is_not_asked_for_in_vain_is_not_told(workspace: Workspace, asked: dict[str, str]) -> None:
    result = workspace.pack(saved(colour_model(), workspace.folder / "model.joblib"), **asked)
    assert not any("changes nothing for colour" in remark for remark in result.remarks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message", "suspect"),
    [
        ("", "pixels 0 to 255 as they are, 0 to 1 seen", "end at 1, a pixel's at 255: is the divisor right?"),
        (', "divisor": 255', "pixels 0 to 255 / 255, 0 to 1 seen", None),
        (', "divisor": 127.5, "offset": -1', "pixels 0 to 255 / 127.5 - 1, 0 to 1 seen", None),
        (', "offset": 1', "pixels 0 to 255 + 1, 0 to 1 seen", "end at 1, a pixel's at 256: is the divisor right?"),
    ],
)
def test_the_remarks_tell_how_pixels_are_scaled(
    workspace: Workspace, options: str, message: str, suspect: str | None
) -> None:
    pixels = np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 1.0], [1.0, 0.5]])
    inputs = workspace.folder / "inputs.json"
    inputs.write_text(f'[{{"name": "photo", "kind": "image", "mode": "L", "size": [2, 1]{options}}}]')
    artifact = saved(LogisticRegression().fit(pixels, [0, 1, 0, 1]), workspace.folder / "model.joblib")
    remarks = workspace.pack(artifact, sample=workspace.sample(pd.DataFrame(pixels)), inputs=str(inputs)).remarks
    assert f"input photo: image of mode L, 2 x 1, {message}" in remarks
    told = [remark for remark in remarks if "divisor" in remark]
    assert told == ([f"input photo: the sample's values {suspect}"] if suspect else [])


@pytest.mark.slow
def test_the_remarks_tell_the_times_of_one_row_and_of_many(once: Once) -> None:
    workspace, result = once("two")
    proof = workspace.repository.manifest("flowers", 1).proof
    took = {name: written(value) for name, value in proof.items() if isinstance(value, float) and name.endswith("us")}
    [said] = [remark for remark in result.remarks if remark.startswith("served as a graph")]
    assert said.endswith(
        f"; one row takes {took['graph_us']}, with the artifact {took['artifact_us']}; "
        f"32 rows take {took['graph_32_us']}, with the artifact {took['artifact_32_us']}; "
        f"1,000 rows take {took['graph_1000_us']}, with the artifact {took['artifact_1000_us']}"
    )


@pytest.mark.slow
def test_a_graph_that_is_slower_for_many_rows_is_reported_and_recorded(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    durations_us = iter([[20.0, 60.0], [30.0, 70.0], [250.0, 100.0]])
    monkeypatch.setattr(timing, "medians_us", lambda *runs: next(durations_us) if len(runs) == 2 else [1.0])
    result = workspace.pack(saved(TWO, workspace.folder / "model.joblib"))
    said = "the graph is slower than the artifact: it takes 2.5 times as long for 1,000 rows"
    assert said in result.remarks
    proof = describe(workspace.repository.manifest("flowers", 1))["proof"]
    assert (proof["slower"], proof["slower_times"]) == (said, {"1000": 2.5})


@pytest.mark.parametrize(
    ("suffix", "save", "format_"),
    [
        (".joblib", lambda path: joblib.dump(TWO, path), "joblib"),
        (".pkl", lambda path: path.write_bytes(pickle.dumps(TWO)), "joblib"),
        pytest.param(".pickle", lambda path: path.write_bytes(pickle.dumps(TWO)), "joblib", marks=pytest.mark.slow),
        pytest.param(".skops", lambda path: skops_dump(TWO, path), "skops", marks=pytest.mark.slow),
        pytest.param(".JOBLIB", lambda path: joblib.dump(TWO, path), "joblib", marks=pytest.mark.slow),
    ],
)
def test_every_format_is_packed(workspace: Workspace, suffix: str, save: Any, format_: str) -> None:
    artifact = workspace.folder / f"two{suffix}"
    save(artifact)
    workspace.pack(artifact)
    manifest = workspace.repository.manifest("flowers", 1)
    assert (manifest.format, manifest.artifact) == (format_, f"model{suffix.lower()}")
    check(CheckRequest("flowers", 1, str(workspace.repository.root)))


def test_a_model_without_feature_names_takes_numbered_features(once: Once) -> None:
    manifest = once("two")[0].repository.manifest("flowers", 1)
    assert manifest.signature.names == ("feature1", "feature2")
    assert manifest.signature.classes == (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("words", [np.str_, str])
def test_labels_that_are_numpy_strings_become_strings(workspace: Workspace, words: Any) -> None:
    target = np.array([words(word) for word in SPECIES], dtype=object)
    manifest = workspace.packed(LogisticRegression().fit(FEATURES[["petals"]], target))
    assert manifest.signature.classes == ("aster", "rose")
    assert {example.outputs["prediction"] for example in manifest.examples} <= {"aster", "rose"}


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "x.", "my model", "é", "a" * 65])
def test_a_name_that_cannot_stand_in_a_url_is_refused(workspace: Workspace, name: str) -> None:
    assert workspace.refusal(TWO, name=name).startswith(f"name {name!r} cannot stand in a URL: 1 to 64 letters")


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ({"model": TWO}, "it holds parts, not one model: model: LogisticRegression. To pack one: flask models add "),
        ({"a": 1}, "none of its 1 parts is a model; they are: a: int"),
        (LogisticRegression, "it is the class LogisticRegression, not a fitted model"),
        (LogisticRegression(), "this LogisticRegression is not fitted: call fit before saving it"),
        (DBSCAN().fit([[0.0], [1.0]]), "DBSCAN labels the rows it was fitted on and has no predict for new rows"),
        (
            AlwaysFailing().fit([[1.0], [2.0]], ["a", "b"]),
            "nothing tells what its inputs are, and it fails on values made",
        ),
    ],
    ids=["dict", "dict without a model", "class", "not fitted", "DBSCAN", "fails"],
)
def test_an_object_that_is_not_a_fitted_model_is_refused(workspace: Workspace, thing: object, message: str) -> None:
    assert workspace.refusal(thing).startswith(message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.joblib", b"hello", "is a text file, not a model; its first line is 'hello'"),
        ("a.joblib", b"", "is empty"),
        ("a.joblib", b"\x80\x05}\x94(", "is cut off: its 5 bytes end too early"),
        ("a.pkl", b"\x80\x05\xff.", "cannot be loaded: it is not a readable joblib or pickle file ("),
        ("a.pkl", b"cno_such_library\nModel\n.", "cannot be loaded: it needs no_such_library, which is not installed"),
        ("a.h5", b"\x89HDF", "is an HDF5 file, as Keras writes it"),
        ("missing.joblib", None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    workspace: Workspace, name: str, content: bytes | None, message: str
) -> None:
    path = workspace.folder / name
    if content is not None:
        path.write_bytes(content)
    assert workspace.refusal(path).startswith(f"{path} {message}")


def test_the_refusal_says_where_to_put_a_missing_module(workspace: Workspace) -> None:
    (workspace.folder / "a.pkl").write_bytes(b"crideparts.steps\nhours\n.")
    assert workspace.refusal(workspace.folder / "a.pkl").endswith(
        "it needs rideparts, which is not installed or, if it is a module of your own, not beside wsgi.py (where it is "
        "to be committed) or on PYTHONPATH"
    )
    (workspace.folder / "b.pkl").write_bytes(b"csklearn.no_such_part\nModel\n.")
    assert "PYTHONPATH" not in workspace.refusal(workspace.folder / "b.pkl")


def test_an_empty_folder_is_refused(workspace: Workspace) -> None:
    (workspace.folder / "a.joblib").mkdir()
    assert workspace.refusal(workspace.folder / "a.joblib").endswith("is a folder, not a model: it holds nothing")


def test_a_pickle_that_exits_is_refused(workspace: Workspace) -> None:
    path = workspace.folder / "a.pkl"
    path.write_bytes(pickle.dumps(Reduced(exec, "raise SystemExit(0)")))
    assert "SystemExit" in workspace.refusal(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["length", "petals"], "the sample lacks colour; the model takes: length, petals, colour"),
        (
            ["length", "petals", "colour", "species"],
            "the sample adds species; the model takes: length, petals, colour; name the target with --target, "
            "and leave out other columns",
        ),
        (["length", "petals", "species"], "the sample lacks colour and adds species; the model takes: length, petals"),
    ],
)
def test_a_sample_that_lacks_or_adds_columns_is_refused(workspace: Workspace, columns: list[str], message: str) -> None:
    assert workspace.refusal(flower_model(), sample=workspace.sample(FRAME[columns])).startswith(message)


def test_a_missing_target_column_is_refused(workspace: Workspace) -> None:
    message = workspace.refusal(flower_model(), sample=workspace.sample(FEATURES), target="kind")
    assert message.endswith("has no target column 'kind'; it has: length, petals, colour")


def test_dates_that_the_model_was_not_trained_on_are_refused(workspace: Workspace) -> None:
    rows = FEATURES.assign(colour=pd.Timestamp("2026-01-01"))
    message = workspace.refusal(flower_model(), sample=workspace.sample(rows, "sample.parquet"))
    assert message.startswith("the model fails on the sample's rows (")


def test_a_sample_of_words_that_the_model_never_saw_is_refused(workspace: Workspace) -> None:
    message = workspace.refusal(flower_model(), sample=workspace.sample(FEATURES.assign(colour="mauve")))
    assert message.startswith("the model fails on the sample's rows (ValueError: Found unknown categories")


@pytest.mark.slow
def test_a_column_is_served_with_the_width_of_training(workspace: Workspace) -> None:
    # 2 * 100 overflows in int8, but not in int64.
    rows = pd.DataFrame({"a": np.array([1, 2, 3, 4], dtype=np.int8)})
    model = make_pipeline(FunctionTransformer(hundredfold), LinearRegression()).fit(rows, range(4))
    manifest = workspace.packed(model, sample=workspace.sample(rows, "sample.parquet"))
    assert [spec.dtype for spec in manifest.signature.inputs] == ["int8"]
    predictions = {example.instance["a"]: example.outputs["prediction"] for example in manifest.examples}
    assert predictions == dict(zip([1, 2, 3, 4], model.predict(rows).tolist(), strict=True))


def test_a_model_that_answers_differently_after_json_is_refused(workspace: Workspace) -> None:
    rows = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]}, index=[7, 8, 9, 11])
    model = make_pipeline(FunctionTransformer(numbered_by_index), LinearRegression()).fit(rows, [1.0, 2.0, 3.0, 4.0])
    message = workspace.refusal(model, sample=workspace.sample(rows, "sample.parquet"))
    assert message.startswith("through JSON the model gives ")
    assert message.endswith("the sample's types or its index cannot be sent as JSON")


@pytest.mark.slow
def test_a_version_that_was_changed_is_refused_by_check(copied: Callable[[str], Workspace]) -> None:
    workspace = copied("two")
    artifact = workspace.repository.folder("flowers", 1) / "model.joblib"
    artifact.write_bytes(artifact.read_bytes()[::-1])
    with pytest.raises(PackingRefused, match=r"model.joblib is damaged or was replaced"):
        check(CheckRequest("flowers", 1, str(workspace.repository.root)))


@pytest.mark.slow
def test_a_missing_version_is_refused_by_check(once: Once) -> None:
    workspace, _ = once("two")
    with pytest.raises(PackingRefused, match=r"has no version or alias '2'; there are: 1"):
        check(CheckRequest("flowers", 2, str(workspace.repository.root)))


def rows_recorded(folder: Path) -> Recorded:
    with (folder / RECORDED).open("rb") as stream:
        return read_recorded(stream)


def rewritten(folder: Path, rows: Recorded | None = None, **facts: Any) -> None:
    """Change the manifest and, if given, the recorded rows of a version."""
    manifest = replace(manifests.read(folder), **facts)
    if rows is not None:
        write_recorded(folder, rows)
        manifest = replace(manifest, files=manifest.files | {RECORDED: sha256_of(folder / RECORDED)})
    manifests.write(folder, manifest)


@pytest.mark.slow
def test_hundreds_of_rows_are_recorded_with_their_answers(once: Once) -> None:
    model, (workspace, _) = flower_model(), once("flowers")
    manifest = workspace.repository.manifest("flowers", 1)
    rows = rows_recorded(workspace.repository.folder("flowers", 1))
    assert manifest.recorded == RECORDED
    assert len(rows.instances) > 200
    assert set(rows.outputs) == set(manifest.signature.outputs)
    frame = pd.DataFrame(rows.instances)[list(FEATURES)]
    assert rows.outputs["prediction"] == model.predict(frame).tolist()
    assert any(row["colour"] is None for row in rows.instances)


@pytest.mark.slow
def test_an_artifact_is_served_by_other_libraries_that_give_the_recorded_answers(
    copied: Callable[[str], Workspace],
) -> None:
    workspace = copied("flowers without a graph")
    folder = workspace.repository.folder("flowers", 1)
    rewritten(folder, environment=environment() | {"scikit-learn": "1.2.2"})
    assert check(CheckRequest("flowers", 1, str(workspace.repository.root))).version == 1
    rows = len(rows_recorded(folder).instances)
    assert serve(ServeRequest(str(folder))) == Result(environment=environment(), rows=rows)


@pytest.mark.slow
@pytest.mark.fault("M03")
def test_an_artifact_with_other_answers_under_other_libraries_is_refused_with_both_versions(
    copied: Callable[[str], Workspace],
) -> None:
    workspace = copied("flowers without a graph")
    folder = workspace.repository.folder("flowers", 1)
    rows = rows_recorded(folder)
    rows.outputs["probabilities"][-1] = [0.25, 0.75]
    rewritten(folder, rows)
    request = CheckRequest("flowers", 1, str(workspace.repository.root))
    check(request)  # nothing has changed since packing: its examples are enough
    rewritten(folder, environment=environment() | {"scikit-learn": "1.2.2"})
    for refused in (lambda: check(request), lambda: serve(ServeRequest(str(folder)))):
        with pytest.raises(PackingRefused) as caught:
            refused()
        message = caught.value.detail
        assert f"its probabilities is another for 1 of {len(rows.instances)} recorded rows, [" in message
        assert f"scikit-learn was 1.2.2, is {environment()['scikit-learn']}" in message
        assert message.endswith("train and save it with those that are installed")


@pytest.mark.slow
def test_a_proven_graph_is_served_whatever_is_installed(copied: Callable[[str], Workspace]) -> None:
    workspace = copied("two")
    folder = workspace.repository.folder("flowers", 1)
    rewritten(folder, environment=environment() | {"scikit-learn": "1.2.2"})
    assert check(CheckRequest("flowers", 1, str(workspace.repository.root))).version == 1


def test_a_version_of_an_earlier_release_has_no_rows_and_is_proven_by_its_examples(
    copied: Callable[[str], Workspace],
) -> None:
    workspace = copied("two without a graph")
    folder = workspace.repository.folder("flowers", 1)
    rewritten(folder, recorded=None, environment={"scikit-learn": "1.2.2"})
    assert check(CheckRequest("flowers", 1, str(workspace.repository.root))).version == 1


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"{}", b"\x1f\x8b\x08\x00broken"])
def test_recorded_rows_that_cannot_be_read_are_no_proof(copied: Callable[[str], Workspace], content: bytes) -> None:
    workspace = copied("two without a graph")
    folder = workspace.repository.folder("flowers", 1)
    (folder / RECORDED).write_bytes(content)
    files = manifests.read(folder).files | {RECORDED: sha256_of(folder / RECORDED)}
    rewritten(folder, files=files, environment={"scikit-learn": "1.2.2"})
    with pytest.raises(PackingRefused, match=r"recorded.json.gz cannot be read"):
        check(CheckRequest("flowers", 1, str(workspace.repository.root)))


@pytest.mark.slow
def test_the_verdict_says_how_often_predictions_agree_with_the_target(once: Once, workspace: Workspace) -> None:
    model = flower_model()
    verdict = once("flowers with a target")[1].verdict
    assert verdict is not None
    assert verdict.agreement is not None
    right = float(np.mean(model.predict(FEATURES) == SPECIES))
    assert (verdict.agreement.measure, verdict.agreement.value) == ("accuracy", right)
    assert verdict.shown()[-1].startswith(f"its predictions equal 'species' in {round(right * 60)} of 60 rows")
    turned = FEATURES.assign(species=np.where(SPECIES == "rose", "aster", "rose"))
    verdict = packed_flowers(workspace, sample=workspace.sample(turned), target="species").verdict
    assert verdict is not None
    assert verdict.shown()[-1].endswith("less than the commonest value alone would: is it the right sample and target?")
    assert once("flowers")[1].verdict != verdict


@pytest.mark.slow
def test_the_verdict_of_a_regressor_is_its_r2(workspace: Workspace) -> None:
    rows = FEATURES[["petals"]].assign(height=range(len(FRAME)))
    model = LinearRegression().fit(rows[["petals"]], rows["height"])
    artifact = saved(model, workspace.folder / "model.joblib")
    verdict = workspace.pack(artifact, sample=workspace.sample(rows), target="height").verdict
    assert verdict is not None
    assert verdict.agreement is not None
    assert verdict.agreement.measure == "R²"
    assert verdict.agreement.value == pytest.approx(model.score(rows[["petals"]], rows["height"]))


@pytest.mark.slow
def test_assumptions_about_training_and_the_sample_are_recorded(workspace: Workspace) -> None:
    sample = workspace.folder / "rows.csv"
    sample.write_text(FEATURES.fillna({"length": "?"}).to_csv(sep=";", index=False))
    artifact = saved(flower_model(), workspace.folder / "model.joblib")
    remarks = workspace.pack(artifact, sample=str(sample)).remarks
    training, read, missing = workspace.repository.manifest("flowers", 1).assumptions
    assert training.about == "training environment"
    assert training.text.endswith("; taken for the installed libraries")
    assert (read.about, read.text) == ("sample", "sample: 60 rows, UTF-8, separated by ';'")
    assert (missing.about, missing.text) == ("sample", "sample column 'length': '?' taken for missing, in 1 row")
    assert {read.text, missing.text} <= set(remarks)
    note = "its parts were saved with scikit-learn 1.2.2 and 1.4.2; 1.4.2, the version of the outermost part, is used"
    notes = (note,)
    result = packed_two(workspace, trained_with=("scikit-learn==1.4.2",), training_notes=notes)
    assert [each.text for each in workspace.repository.manifest("flowers", 2).assumptions] == [*notes]
    assert result.remarks[0] == notes[0]


@pytest.mark.slow
def test_an_artifact_of_another_release_is_refused_without_trained_with(workspace: Workspace) -> None:
    here = environment()["scikit-learn"].encode()
    older = b"1.2.2".ljust(len(here), b"0")
    path = workspace.folder / "a.pkl"
    path.write_bytes(pickle.dumps(TWO).replace(here, older))
    assert workspace.refusal(path) == (
        f"{path} was saved with scikit-learn {older.decode()}, and {here.decode()} is installed: "
        f"--trained-with scikit-learn=={older.decode()} packs it with that one"
    )
    assert workspace.pack(
        path, trained_with=(f"scikit-learn=={here.decode()}",), trained_with_source="--trained-with"
    ).version
