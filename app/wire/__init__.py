"""HTTP: one blueprint for each protocol. To add one, copy `predict.py` and name its module in `PROTOCOLS`."""

from __future__ import annotations

from typing import Protocol

from flask_smorest import Blueprint

from app.wire import health, invocations, metrics, models, open_inference, predict, tensorflow_serving, vertex
from app.wire.backend import Backend


class WireProtocol(Protocol):
    """What a protocol's module offers.

    Beside it `ERRORS: ErrorFormat` where its errors have a form of its own, and `REQUESTS`, which documents the
    bodies of paths that predict.
    """

    def blueprint(self, backend: Backend, /) -> Blueprint:
        """Return its URLs."""


PROTOCOLS: tuple[WireProtocol, ...] = (
    vertex,
    predict,
    models,
    health,
    metrics,
    open_inference,
    tensorflow_serving,
    invocations,
)
"""Where two have the same path, the first answers: Vertex AI may choose any."""
REQUESTS = {path: form for protocol in PROTOCOLS for path, form in getattr(protocol, "REQUESTS", {}).items()}
ERRORS = tuple(protocol.ERRORS for protocol in PROTOCOLS if hasattr(protocol, "ERRORS"))
BLOCKING = ("health.ready", "metrics.metrics", "vertex.vertex_health", "invocations.ping", "open_inference.ready")
"""Views that platforms ask above all when every thread is taken: each has a thread of its own while it lasts."""
