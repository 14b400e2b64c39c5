"""Graphs: nothing is unpickled, and neither scikit-learn nor pandas is imported."""

from __future__ import annotations

from typing import BinaryIO

from app.runtime.servable import Servable
from app.signature import Signature


def load(stream: BinaryIO, signature: Signature) -> Servable:
    """The servable of the graph in the file; weights beside it (external data) are read from its folder.

    Raises:
        LoadingFailed: ONNX Runtime does not take it.
    """
    from app.runtime.graph import GraphServable, session_of  # ONNX Runtime is for those who serve a graph

    return GraphServable(session_of(stream), signature)
