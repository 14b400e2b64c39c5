"""One Flask blueprint for each HTTP protocol. To add one, copy `predict.py` and name its module in `PROTOCOLS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from flask_smorest import Blueprint

from app.storage.keys import ADMIN, METRICS, PREDICT
from app.wire import health, invocations, jobs, metrics, models, open_inference, predict, tensorflow_serving, vertex
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
    jobs,
    open_inference,
    tensorflow_serving,
    invocations,
)
"""If two have the same path, the first one answers: the settings of Vertex AI can name any path."""
REQUESTS = {path: form for protocol in PROTOCOLS for path, form in getattr(protocol, "REQUESTS", {}).items()}
ERRORS = tuple(protocol.ERRORS for protocol in PROTOCOLS if hasattr(protocol, "ERRORS"))
OF_JOBS = ("create_job", "delete_job", "job_rejects", "job_result", "list_jobs", "show_job")
BLOCKING = (
    *(f"jobs.{view}" for view in OF_JOBS),
    "health.ready",
    "metrics.metrics",
    "vertex.vertex_health",
    "invocations.ping",
    "open_inference.ready",
)
"""Views that must answer while every thread is busy, and views that wait for a database, a disk or a slow client. Each
call gets a thread of its own."""

PROBES = (
    "health.live",
    "health.ready",
    "invocations.ping",
    "open_inference.live",
    "open_inference.ready",
    "vertex.vertex_health",
)
"""Liveness and readiness probes of the protocols."""
ASSETS = ("web.asset", "web.favicon")
OPEN = (*PROBES, *ASSETS, "web.problem", "web.problems")
"""Views that need no API key: probes, and pages that show nothing of a model."""
UNLIMITED = (*PROBES, *ASSETS, "open_inference.model_ready", "tensorflow_serving.v1_status")
"""Views that do not count towards the limits of clients: assets, and probes of the server or of a model."""
ADMINISTRATIVE = ("open_inference.load", "open_inference.repository_index", "open_inference.unload")
SCOPES: Mapping[str, str | None] = {
    **dict.fromkeys(OPEN),
    **dict.fromkeys(ADMINISTRATIVE, ADMIN),
    "metrics.metrics": METRICS,
    "web.try_model": PREDICT,
    "jobs.create_job": PREDICT,
    "jobs.delete_job": PREDICT,
}
"""The scope that a view requires of an API key. Other views require `predict` for reading and predictions, else
`admin`."""
