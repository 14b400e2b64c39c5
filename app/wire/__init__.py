"""HTTP: one blueprint for each protocol. To add one, copy `predict.py` and name its `blueprint` in `PROTOCOLS`."""

from __future__ import annotations

from collections.abc import Callable

from flask_smorest import Blueprint

from app.core.catalogue import Catalogue
from app.core.service import PredictService
from app.settings import Settings
from app.wire import health, models, predict

PROTOCOLS: tuple[Callable[[PredictService, Catalogue, Settings], Blueprint], ...] = (
    predict.blueprint,
    models.blueprint,
    health.blueprint,
)
