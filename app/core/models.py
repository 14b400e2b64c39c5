"""The loaded models, for steps and views that call them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from app.core.answer import Answer
from app.core.service import PredictService, ProtocolAdapter
from app.errors import InvalidInstances, ModelNotPermitted
from app.signature import Signature
from app.signature.batch import Decode, PredictRequest
from app.telemetry import Timings, current_request
from app.telemetry.metrics import SharedMetrics
from app.telemetry.version_counts import OK

SMALL_ROWS = 32
"""A quick graph answers this many rows on the event loop without delaying others."""


class _Call:
    """A prediction that this process requests itself. It is its own adapter and keeps the answer unencoded."""

    body_bytes = sys.maxsize  # no client sent a body, so the limit of texts does not apply

    def __init__(self, instances: Sequence[Any], outputs: Sequence[str] | None) -> None:
        self.instances = instances
        self._request = PredictRequest(instances, outputs=outputs)
        self.adapter: ProtocolAdapter = self
        self.timings = Timings()
        self.model, self.version, self.rows, self.content = "", 0, 0, b""
        self.error: Exception | None = None
        self.values: dict[str, list[Any]] = {}

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        return self._request

    def encode(self, answer: Answer) -> bytes:
        self.values = answer.values()
        return b""

    def located(self, error: InvalidInstances) -> InvalidInstances:
        return error


class Models:
    """The models of this process, with their steps. Lives as long as the process; safe to call from many threads."""

    def __init__(self, service: PredictService, metrics: SharedMetrics) -> None:
        self._service = service
        self._metrics = metrics

    def predict(
        self, model: str, instances: Sequence[Any], *, outputs: Sequence[str] | None = None, version: str | None = None
    ) -> Mapping[str, list[Any]]:
        """Return the outputs of a model for these records or rows, by name, with one value for each.

        Raises:
            ModelNotFound, VersionNotFound, InvalidInstances, TooManyInstances: the model does not exist or does not
                accept these instances. In a view they become 404, 422 and 413 unless the view catches them; in a step
                they are a failure of the step.
            ModelUnavailable, ModelFailed, StepFailed: as for any request.
            ModelNotPermitted: a view called this, and the API key of its request is limited to other models.
        """
        _check_permitted(model)
        call = _Call(list(instances), outputs)
        self._service.predict(model, version, [call])
        return self._answer(call)

    async def apredict(
        self, model: str, instances: Sequence[Any], *, outputs: Sequence[str] | None = None, version: str | None = None
    ) -> Mapping[str, list[Any]]:
        """Like `predict`, for async steps and views. The event loop keeps running meanwhile."""
        _check_permitted(model)
        call = _Call(list(instances), outputs)
        if self._service.event_loop.is_here:
            await self._service.predict_async(model, version, call, len(call.instances) <= SMALL_ROWS)
        else:
            await asyncio.to_thread(self._service.predict, model, version, [call])
        return self._answer(call)

    def _answer(self, call: _Call) -> Mapping[str, list[Any]]:
        if call.error is not None:
            raise call.error
        if call.model:
            timings = call.timings
            self._metrics.predicted(call.model, call.version, OK, call.rows, timings.total_s, timings.ms)
        return call.values


def _check_permitted(model: str) -> None:
    allowed = current_request.get().permitted_models
    if allowed is not None and model not in allowed:
        raise ModelNotPermitted(model, allowed)
