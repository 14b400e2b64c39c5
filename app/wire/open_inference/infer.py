"""Answers inference requests, and counts them."""

from __future__ import annotations

import contextlib

from flask import current_app

from app.core.catalogue import Catalogue
from app.core.service import PredictService
from app.core.tally import Tally
from app.errors import InvalidInstances, RetortError
from app.settings import Settings
from app.telemetry import Timings
from app.wire.application import Environ, Headers, timings_of
from app.wire.open_inference.exchange import InferExchange
from app.wire.open_inference.stats import spent


class Inference:
    """Answers inference requests. Lives as long as the process; safe to call from many threads."""

    def __init__(self, service: PredictService, catalogue: Catalogue, settings: Settings) -> None:
        self._service = service
        self._catalogue = catalogue
        self._settings = settings

    @property
    def tally(self) -> Tally:
        """What the workers of the server have counted together."""
        return Tally(current_app.extensions["retort_metrics"])

    def __call__(self, environ: Environ, model: str, version: str | None) -> tuple[bytes, Headers]:
        """The body and headers of the answer to the request in a WSGI environ; raises what is wrong with it."""
        timings = timings_of(environ)
        limits = (self._settings.body_limit_bytes, self._settings.max_instances)
        exchange = InferExchange(environ, *limits, self._catalogue.entry)
        try:
            content = self._service.predict(model, version, exchange, timings)
        except InvalidInstances as error:
            self._failed(model, version, timings)
            raise exchange.located(error) from None
        except RetortError:
            self._failed(model, version, timings)
            raise
        self.tally.succeeded(model, exchange.version, exchange.rows, spent(timings))
        return content, [*exchange.headers, ("Server-Timing", timings.header())]

    def _failed(self, model: str, version: str | None, timings: Timings) -> None:
        timings.ended("run")
        with contextlib.suppress(RetortError):  # there is no such model to count it for
            entry = self._catalogue.entry(model, version)
            of = spent(timings)
            self.tally.failed(entry.model, entry.version, of.input_ns + of.run_ns)
