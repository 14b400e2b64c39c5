"""Versions of `.onnx` files from any framework."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.errors import PackingRefused
from app.packing.serve import check
from app.packing.spawn import CheckRequest, PackRequest
from app.packing.write import pack
from app.runtime.loaders import LOADERS
from app.signature.validator import Validator
from app.storage.manifest import Manifest
from app.storage.repository import Repository

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
WEIGHTS = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)


class Workspace:
    """A folder for files and a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository(folder / "models")

    def file(
        self,
        nodes: Sequence[Any],
        inputs: Sequence[tuple[str, int, list[Any]]],
        outputs: Sequence[str | tuple[str, int, list[Any]]],
        constants: dict[str, Any] | None = None,
    ) -> Path:
        """Write a file with this graph, as PyTorch does."""
        infos = [
            onnx.ValueInfoProto(name=each) if isinstance(each, str) else helper.make_tensor_value_info(*each)
            for each in outputs
        ]
        graph = helper.make_graph(
            list(nodes),
            "main",
            [helper.make_tensor_value_info(*each) for each in inputs],
            infos,
            [numpy_helper.from_array(np.asarray(values), name) for name, values in (constants or {}).items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="pytorch")
        onnx.save(model, str(self.folder / "model.onnx"))
        return self.folder / "model.onnx"

    def pack(self, path: Path, **asked: Any) -> tuple[Manifest, tuple[str, ...]]:
        """Pack the file, then load and prove the version as serving does; return its manifest and the remarks."""
        result = pack(PackRequest(str(path), "net", str(self.repository.root), **asked))
        assert result.version is not None
        assert check(CheckRequest("net", result.version, str(self.repository.root))).refused is None
        return self.repository.manifest("net", result.version), result.remarks

    def answers(self, manifest: Manifest, instances: list[Any]) -> dict[str, Any]:
        """Return the version's outputs for these instances."""
        folder = self.repository.folder("net", manifest.version)
        with (folder / manifest.artifact).open("rb") as stream:
            servable = LOADERS["onnx"](stream, manifest.signature)
        batch = Validator(manifest.signature, 1000).validate(instances)
        return {name: value.tolist() for name, value in servable.run(batch, manifest.signature.outputs).items()}

    def refusal(self, path: Path, **asked: Any) -> str:
        """Return the reason why the file is not packed."""
        with pytest.raises(PackingRefused) as caught:
            pack(PackRequest(str(path), "net", str(self.repository.root), **asked))
        return caught.value.detail

    def declared(self, inputs: list[dict[str, Any]]) -> str:
        (self.folder / "inputs.json").write_text(json.dumps(inputs))
        return str(self.folder / "inputs.json")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def classifier(workspace: Workspace) -> Path:
    """Return three classes by the largest of three columns, with a map for each row, as skl2onnx writes it."""
    nodes = [
        helper.make_node("Softmax", ["X"], ["scores"]),
        helper.make_node("ArgMax", ["X"], ["label"], axis=1, keepdims=0),
        helper.make_node(
            "ZipMap", ["scores"], ["zipped"], domain="ai.onnx.ml", classlabels_strings=["red", "green", "blue"]
        ),
        helper.make_node("Gather", ["names", "label"], ["color"]),
    ]
    names = np.array(["red", "green", "blue"], dtype=object)
    return workspace.file(nodes, [("X", FLOAT, [None, 3])], [("color", STRING, [None]), "zipped"], {"names": names})


def test_an_image_model_takes_an_array_of_its_shape(workspace: Workspace) -> None:
    nodes = [helper.make_node("Flatten", ["pixels"], ["flat"]), helper.make_node("MatMul", ["flat", "W"], ["logits"])]
    path = workspace.file(
        nodes, [("pixels", FLOAT, ["batch", 3, 4, 4])], [("logits", FLOAT, ["batch", 5])], {"W": WEIGHTS}
    )
    manifest, remarks = workspace.pack(path)
    [spec] = manifest.signature.inputs
    assert (spec.name, spec.kind, spec.dtype, spec.shape) == ("pixels", "array", "float32", (3, 4, 4))
    assert (manifest.runtime, manifest.format, manifest.examples_made_up) == ("graph", "onnx", True)
    assert manifest.estimator == "ONNX by pytorch"
    assert len(manifest.examples) == 3
    rows = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)
    found = workspace.answers(manifest, [{"pixels": row.tolist()} for row in rows])["prediction"]
    assert np.allclose(found, rows.reshape(2, 48) @ WEIGHTS, rtol=1e-5)
    assert any("the same to the last bit on 9 rows" in remark for remark in remarks)


@pytest.mark.slow
def test_a_sample_names_the_columns_and_their_ranges(workspace: Workspace) -> None:
    (workspace.folder / "rows.csv").write_text("a;b;c;color\n1,5;0;0;red\n0;2;0;green\n")
    manifest, _ = workspace.pack(classifier(workspace), sample=str(workspace.folder / "rows.csv"), target="color")
    assert manifest.signature.names == ("a", "b", "c")
    assert (manifest.signature.inputs[0].minimum, manifest.signature.inputs[0].maximum) == (0.0, 1.5)
    assert manifest.signature.classes == ("red", "green", "blue")
    assert manifest.task == "classifier"
    found = workspace.answers(manifest, [{"a": 0, "b": 0, "c": 9}, {"a": 9, "b": 0, "c": 0}])
    assert found["prediction"] == ["blue", "red"]
    assert np.shape(found["probabilities"]) == (2, 3)
    assert workspace.refusal(classifier(workspace), sample=str(workspace.folder / "rows.csv")).endswith(
        "its input 'X' takes 3 columns; the sample has 4; name the target with --target, and leave out other columns"
    )


def test_declared_inputs_name_the_columns(workspace: Workspace) -> None:
    inputs = [{"name": name, "kind": "number", "maximum": 5} for name in ("x", "y", "z")]
    manifest, _ = workspace.pack(classifier(workspace), inputs=workspace.declared(inputs))
    assert [(spec.name, spec.maximum) for spec in manifest.signature.inputs] == [("x", 5), ("y", 5), ("z", 5)]
    assert workspace.refusal(classifier(workspace), inputs=workspace.declared(inputs[:2])).startswith(
        "its input 'X' takes 3 columns; the declared inputs are 2"
    )


def test_a_batch_of_one_is_served_row_by_row(workspace: Workspace) -> None:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["flat"]), helper.make_node("MatMul", ["flat", "W"], ["y"])]
    constants = {"W": WEIGHTS, "s": np.array([1, 48])}
    manifest, remarks = workspace.pack(
        workspace.file(nodes, [("x", FLOAT, [1, 3, 4, 4])], [("y", FLOAT, [1, 5])], constants)
    )
    assert "it takes one row at once" in remarks
    rows = [{"x": np.full((3, 4, 4), place).tolist()} for place in (0.5, 1.0, 2.0)]
    assert np.allclose(workspace.answers(manifest, rows)["prediction"][2], WEIGHTS.sum(axis=0) * 2, rtol=1e-4)


def test_several_inputs_and_outputs_keep_their_names(workspace: Workspace) -> None:
    nodes = [
        helper.make_node("Cast", ["ids:0"], ["numbers"], to=FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["total"], keepdims=1),
        helper.make_node("Add", ["total", "age"], ["sum"]),
        helper.make_node("ReduceMax", ["W"], ["constant"], keepdims=0),
    ]
    inputs = [("ids:0", INT64, ["n", 4]), ("age", FLOAT, ["n", 1])]
    outputs = [("sum", FLOAT, ["n", 1]), ("numbers", FLOAT, ["n", 4]), ("constant", FLOAT, [])]
    manifest, remarks = workspace.pack(workspace.file(nodes, inputs, outputs, {"axis": np.array([1]), "W": WEIGHTS}))
    assert [(s.name, s.kind, s.shape) for s in manifest.signature.inputs] == [
        ("ids", "array", (4,)),
        ("age", "number", None),
    ]
    assert manifest.signature.outputs == ("prediction", "numbers")
    assert "no output constant: it has no value for each row" in remarks
    found = workspace.answers(manifest, [{"ids": [1, 2, 3, 4], "age": 0.5}])
    assert found == {"prediction": [10.5], "numbers": [[1.0, 2.0, 3.0, 4.0]]}


def test_text_inputs_are_served(workspace: Workspace) -> None:
    nodes = [helper.make_node("Identity", ["text"], ["same"])]
    manifest, _ = workspace.pack(workspace.file(nodes, [("text", STRING, [None, 1])], [("same", STRING, [None, 1])]))
    assert [(spec.name, spec.kind) for spec in manifest.signature.inputs] == [("text", "text")]
    assert workspace.answers(manifest, [{"text": "one"}, {"text": "two"}]) == {"prediction": ["one", "two"]}


def test_a_size_that_is_not_fixed_must_be_declared(workspace: Workspace) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])]
    path = workspace.file(nodes, [("x", FLOAT, ["n", "length"])], [("y", FLOAT, ["n", 1])])
    assert workspace.refusal(path).startswith(
        "its input 'x' has the shape (?), in which not every size is fixed: declare"
    )
    manifest, _ = workspace.pack(path, inputs=workspace.declared([{"name": "x", "kind": "array", "shape": [3]}]))
    assert workspace.answers(manifest, [{"x": [1, 2, 6]}]) == {"prediction": [3.0]}


def test_numbers_that_become_nan_may_not_be_missing(workspace: Workspace) -> None:
    nodes = [helper.make_node("IsNaN", ["a"], ["holes"]), helper.make_node("Where", ["holes", "zero", "a"], ["filled"])]
    nodes.append(helper.make_node("Add", ["filled", "b"], ["y"]))
    constants = {"zero": np.zeros((1, 1), dtype=np.float32)}
    inputs = [("a", FLOAT, ["n", 1]), ("b", FLOAT, ["n", 1])]
    manifest, _ = workspace.pack(workspace.file(nodes, inputs, [("y", FLOAT, ["n", 1])], constants))
    assert [spec.nullable for spec in manifest.signature.inputs] == [True, False]
    assert workspace.answers(manifest, [{"a": None, "b": 2.0}]) == {"prediction": [2.0]}


@pytest.mark.parametrize(
    ("shape", "message"),
    [([8, 3], "it takes 8 rows at once: export it with a dynamic first axis"), ([], "is a single value for all rows")],
)
def test_inputs_that_are_not_rows_are_refused(workspace: Workspace, shape: list[int], message: str) -> None:
    path = workspace.file([helper.make_node("Identity", ["x"], ["y"])], [("x", FLOAT, shape)], [("y", FLOAT, shape)])
    assert message in workspace.refusal(path)


def test_a_file_that_is_cut_off_is_refused(workspace: Workspace) -> None:
    content = classifier(workspace).read_bytes()
    (workspace.folder / "cut.onnx").write_bytes(content[: len(content) // 2])
    message = workspace.refusal(workspace.folder / "cut.onnx")
    assert message.startswith(f"{workspace.folder / 'cut.onnx'} is no ONNX model that can be read")
    (workspace.folder / "text.onnx").write_bytes(b"hello")
    assert "is no ONNX model: its first bytes are b'hello'" in workspace.refusal(workspace.folder / "text.onnx")


def test_a_graph_that_onnx_runtime_cannot_load_is_refused(workspace: Workspace) -> None:
    path = workspace.file([helper.make_node("NoSuchOperator", ["x"], ["y"])], [("x", FLOAT, [None, 1])], ["y"])
    assert workspace.refusal(path).startswith("ONNX Runtime does not take the graph")
