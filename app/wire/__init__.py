"""HTTP: one blueprint for each protocol. To add one, copy `predict.py` and name its module in `PROTOCOLS`."""

from __future__ import annotations

from typing import Protocol

from flask_smorest import Blueprint

from app.core.catalogue import Catalogue
from app.core.service import PredictService
from app.settings import Settings
from app.wire import health, invocations, metrics, models, open_inference, predict, tensorflow_serving, vertex


class WireProtocol(Protocol):
    """What a protocol's module offers.

    Beside it `ERRORS: problems.Errors` where its errors have a form of its own, and `REQUESTS`, which documents the
    bodies of paths that predict.
    """

    def blueprint(self, service: PredictService, catalogue: Catalogue, settings: Settings, /) -> Blueprint:
        """Its URLs."""


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
