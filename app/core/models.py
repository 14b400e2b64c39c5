"""Other models, for steps that ask them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from app.core.answer import Answer
from app.core.service import Asked, Decode, PredictService
from app.core.services import Services
from app.errors import InvalidInstances, ModelNotFound, TooManyInstances, VersionNotFound
from app.runtime.registry import Registry
from app.signature import Signature
from app.telemetry import Timings


class _Told:
    """A request that comes from a step, and its answer as it is."""

    def __init__(self, instances: Sequence[Any], outputs: Sequence[str] | None) -> None:
        self._asked = Asked(instances, outputs=outputs)
        self.values: dict[str, list[Any]] = {}

    def parse(self, signature: Signature, decode: Decode) -> Asked:
        return self._asked

    def encode(self, answer: Answer) -> bytes:
        self.values = answer.values()
        return b""


class Models:
    """The models of this process, with their steps. Lives as long as the process; safe to call from many threads."""

    def __init__(self, service: PredictService) -> None:
        self._service = service

    def complete(self, services: Services, registry: Registry) -> None:
        """Offers the models and their registry to steps; after that nothing is offered any more.

        Raises:
            InvalidSettings: factories ask for what nobody offers.
        """
        services.complete({Models: self, Registry: registry})

    def predict(
        self, model: str, instances: Sequence[Any], *, outputs: Sequence[str] | None = None, version: str | None = None
    ) -> Mapping[str, list[Any]]:
        """The outputs of a model for these records or rows, by name, one value for each.

        Raises:
            ValueError: there is no such model, or it does not accept these instances; that is no fault of the client.
            ModelUnavailable, ModelFailed, StepFailed: as for any request.
        """
        told = _Told(list(instances), outputs)
        try:
            self._service.predict(model, version, told, Timings())
        except InvalidInstances as error:
            bad = "; ".join(f"{each.pointer} {each.detail}" for each in error.errors[:5])
            raise ValueError(f"model {model!r} does not accept these instances: {bad}") from error
        except (TooManyInstances, ModelNotFound, VersionNotFound) as error:
            raise ValueError(error.detail) from error
        return told.values

    async def apredict(
        self, model: str, instances: Sequence[Any], *, outputs: Sequence[str] | None = None, version: str | None = None
    ) -> Mapping[str, list[Any]]:
        """As `predict`, for async steps: in a thread, while the event loop goes on."""
        return await asyncio.to_thread(self.predict, model, instances, outputs=outputs, version=version)
