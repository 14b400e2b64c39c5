"""Convert an artifact as the documentation of skl2onnx does: one input of float32, no ZipMap.

python convert.py ARTIFACT.joblib GRAPH.onnx
"""

import sys
from pathlib import Path

import joblib
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

if __name__ == "__main__":
    artifact, graph = map(Path, sys.argv[1:])
    model = joblib.load(artifact)
    inputs = [("features", FloatTensorType([None, model.n_features_in_]))]
    converted = to_onnx(model, initial_types=inputs, options={"zipmap": False})
    graph.write_bytes(converted.SerializeToString())
