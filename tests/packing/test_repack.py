"""Packing the stored artifact of a version again, in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import helper
from sklearn.linear_model import LogisticRegression

from app.errors import InvalidRepository, PackingRefused
from app.packing import build
from app.packing.repack import repack
from app.packing.spawn import PackRequest, RepackRequest, Result
from app.packing.write import pack
from app.storage import manifest as manifests
from app.storage.manifest import RECORDED, Assumption, Manifest, read_recorded, write_recorded
from app.storage.repository import Repository
from app.storage.verification import sha256_of
from tests.packing.artifacts import flowers, saved

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

FRAME = flowers().dropna()
NUMBERS = FRAME[["length", "petals"]]


class Workspace:
    """A folder with artifacts beside a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository(folder / "models")

    def pack(self, model: Any, frame: pd.DataFrame | None = None, **facts: Any) -> Manifest:
        if frame is not None:
            frame.to_csv(self.folder / "sample.csv", index=False)
            facts["sample"] = str(self.folder / "sample.csv")
        artifact = model if isinstance(model, Path) else saved(model, self.folder / "model.joblib")
        version = pack(PackRequest(str(artifact), "m", str(self.repository.root), **facts)).version
        return self.repository.manifest("m", version or 0)

    def repack(self, version: int = 1, **facts: Any) -> Result:
        return repack(RepackRequest("m", version, str(self.repository.root), **facts))

    def refusal(self, version: int = 1) -> str:
        with pytest.raises(PackingRefused) as caught:
            self.repack(version)
        return caught.value.detail

    def rewrite(self, **facts: Any) -> None:
        """Change the manifest of version 1, as if it had been packed so."""
        folder = self.repository.folder("m", 1)
        manifests.write(folder, replace(manifests.read(folder), **facts))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_a_new_version_has_what_the_stored_one_has_and_a_new_proof(workspace: Workspace) -> None:
    before = workspace.pack(LogisticRegression().fit(NUMBERS, FRAME["species"]), NUMBERS, graph_limit_bytes=0)
    assert before.graph is None
    result = workspace.repack()
    after = workspace.repository.manifest("m", 2)
    assert (after.signature, after.examples, after.files["model.joblib"]) == (
        before.signature,
        before.examples,
        before.files["model.joblib"],
    )
    assert after.runtime == "graph"
    assert after.proof["proven"] is True
    assert after.recorded == RECORDED
    assert after.assumptions == before.assumptions
    assert result.remarks[0].startswith(
        f"it gives the same answers as version 1 on {len(before.examples)} examples and "
    )
    assert result.remarks[0].endswith(" recorded rows")
    assert result.verdict is not None
    assert result.verdict.runtime == "graph"


def test_the_recorded_rows_and_their_answers_are_kept(workspace: Workspace) -> None:
    before = workspace.pack(LogisticRegression().fit(NUMBERS, FRAME["species"]), NUMBERS)
    workspace.repack()
    assert workspace.repository.manifest("m", 2).files[RECORDED] == before.files[RECORDED]


def test_the_new_graph_is_compared_on_the_rows_of_the_sample(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.pack(LogisticRegression().fit(NUMBERS, FRAME["species"]), NUMBERS)
    compared: list[dict[str, Any]] = []

    def derive(estimator: Any, served: Any, signature: Any, rows: Any, *_: Any, **__: Any) -> dict[str, object]:
        compared.extend(rows)
        return {"proven": False, "reason": "nobody asks for it here"}

    monkeypatch.setattr(build, "derive_graph", derive)
    workspace.repack()
    assert all(row in compared for row in NUMBERS.to_dict("records"))
    assert NUMBERS["length"].min() <= min(row["length"] for row in compared)
    assert max(row["length"] for row in compared) <= NUMBERS["length"].max()


@pytest.mark.parametrize("kind", ["array", "image"])
def test_the_graph_of_a_model_of_arrays_or_images_is_compiled_again(workspace: Workspace, kind: str) -> None:
    pixels = np.array([[0.0, 255.0], [255.0, 0.0], [51.0, 204.0], [255.0, 102.0]])
    declared = {
        "array": '[{"name": "photo", "kind": "array", "shape": [1, 2]}]',
        "image": '[{"name": "photo", "kind": "image", "mode": "L", "size": [2, 1]}]',
    }
    (workspace.folder / "inputs.json").write_text(declared[kind])
    model = LogisticRegression().fit(pixels, [0, 1, 0, 1])
    frame = pd.DataFrame(pixels)
    workspace.pack(model, frame, inputs=str(workspace.folder / "inputs.json"), graph_limit_bytes=0)
    workspace.repack()
    after = workspace.repository.manifest("m", 2)
    assert (after.runtime, after.proof["proven"]) == ("graph", True)
    assert [spec.kind for spec in after.signature.inputs] == [kind]


def test_an_artifact_that_answers_otherwise_is_not_packed_again(workspace: Workspace) -> None:
    workspace.pack(LogisticRegression().fit(NUMBERS, FRAME["species"]), NUMBERS)
    folder = workspace.repository.folder("m", 1)
    with (folder / RECORDED).open("rb") as stream:
        rows = read_recorded(stream)
    rows.outputs["prediction"][-1] = "tulip"
    write_recorded(folder, rows)
    workspace.rewrite(files=manifests.read(folder).files | {RECORDED: sha256_of(folder / RECORDED)})
    assert workspace.refusal().startswith("version 1 no longer gives its recorded answers: ")
    assert "its prediction is another for 1 of " in workspace.refusal()
    assert workspace.repository.versions("m") == [1]


def test_a_version_of_an_earlier_release_is_packed_again_by_its_examples(workspace: Workspace) -> None:
    files = workspace.pack(LogisticRegression().fit(NUMBERS, FRAME["species"]), NUMBERS).files
    (workspace.repository.folder("m", 1) / RECORDED).unlink()
    workspace.rewrite(recorded=None, files={name: file for name, file in files.items() if name != RECORDED})
    assert workspace.repack().remarks[0] == "it gives the same answers as version 1 on 5 examples"
    assert workspace.repository.manifest("m", 2).recorded == RECORDED


def test_a_version_without_one_example_is_refused(workspace: Workspace) -> None:
    files = workspace.pack(LogisticRegression().fit(NUMBERS, FRAME["species"])).files
    (workspace.repository.folder("m", 1) / RECORDED).unlink()
    workspace.rewrite(
        examples=(), recorded=None, files={name: file for name, file in files.items() if name != RECORDED}
    )
    assert workspace.refusal() == "version 1 has no example to compare a new graph on"


def test_a_version_whose_rows_are_missing_is_refused(workspace: Workspace) -> None:
    workspace.pack(LogisticRegression().fit(NUMBERS, FRAME["species"]), NUMBERS)
    (workspace.repository.folder("m", 1) / RECORDED).unlink()
    with pytest.raises(InvalidRepository, match=r"recorded.json.gz cannot be read: No such file"):
        workspace.repack()


def test_a_graph_that_came_as_a_file_is_refused(workspace: Workspace) -> None:
    rows = helper.make_tensor_value_info("a", onnx.TensorProto.DOUBLE, ["rows", 1])
    out = helper.make_tensor_value_info("b", onnx.TensorProto.DOUBLE, ["rows", 1])
    graph = helper.make_graph([helper.make_node("Neg", ["a"], ["b"])], "g", [rows], [out])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(made, str(workspace.folder / "model.onnx"))
    workspace.pack(workspace.folder / "model.onnx")
    assert workspace.refusal() == "version 1 is a graph that came as a file: there is nothing to compile again"


def test_the_training_environment_of_the_request_is_recorded(workspace: Workspace) -> None:
    workspace.pack(LogisticRegression().fit(NUMBERS, FRAME["species"]), NUMBERS)
    training = Assumption(
        "training environment", "the artifact does not name its training environment; taken for the installed libraries"
    )
    assert training in workspace.repository.manifest("m", 1).assumptions
    workspace.repack(trained_with=("scikit-learn==1.4.2",), trained_with_source="--trained-with")
    after = workspace.repository.manifest("m", 2)
    assert (after.trained_with, after.trained_with_source) == (("scikit-learn==1.4.2",), "--trained-with")
    assert [assumption for assumption in after.assumptions if assumption.about == "training environment"] == []
