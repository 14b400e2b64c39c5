"""One Flask blueprint for each HTTP protocol. To add one, copy `predict.py` and name its module in `PROTOCOLS`."""

from __future__ import annotations

from typing import Protocol

from flask_smorest import Blueprint

from app.wire import health, invocations, metrics, models, open_inference, predict, tensorflow_serving, vertex
from app.wire.backend import Backend


class WireProtocol(Protocol):
    """The interface of a protocol's module.

    A module may also have `ERRORS: ErrorFormat`, if its errors have their own format, and `REQUESTS`, which documents
    the bodies of its prediction URLs.
    """

    def blueprint(self, backend: Backend, /) -> Blueprint:
        """Return the URLs of the protocol."""


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
"""If two have the same path, the first one answers: Vertex AI may choose any path."""
REQUESTS = {path: form for protocol in PROTOCOLS for path, form in getattr(protocol, "REQUESTS", {}).items()}
ERRORS = tuple(protocol.ERRORS for protocol in PROTOCOLS if hasattr(protocol, "ERRORS"))
BLOCKING = ("health.ready", "metrics.metrics", "vertex.vertex_health", "invocations.ping", "open_inference.ready")
"""Views that platforms call when every thread is busy. Each call gets a thread of its own."""

PROBES = (
    "health.live", "health.ready", "vertex.vertex_health", "invocations.ping", "open_inference.live",
    "open_inference.ready", "open_inference.model_ready", "tensorflow_serving.v1_status",
)  # fmt: skip
"""Views that platforms call to learn whether the server or a model answers."""
