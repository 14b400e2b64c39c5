"""Load graphs. Nothing is unpickled, and neither scikit-learn nor pandas is imported."""

from __future__ import annotations

from typing import BinaryIO

from app.runtime.servable import Servable
from app.signature import Signature


def load(stream: BinaryIO, signature: Signature) -> Servable:
    """Return the servable of the graph in the file. External weights are read from the file's folder.

    Raises:
        LoadingFailed: ONNX Runtime rejects the graph.
    """
    from app.runtime.graph import GraphServable, session_of  # imported only if a graph is served

    return GraphServable(session_of(stream), signature)
