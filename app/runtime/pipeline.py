"""What the registry knows of steps around a run: that there are some, and what clients see of such a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from app.errors import InvalidInstances
from app.runtime.proving import Validates
from app.signature.batch import Batch, Outputs
from app.storage.manifest import Manifest

Refusal = Callable[[Sequence[tuple[int, str, str]]], InvalidInstances]
"""What the client is told of the values that a step refuses: (position, field, what is wrong) of each."""


class Visit(Protocol):
    """The steps of one request; entered before the first and left after the last."""

    async def __aenter__(self) -> Visit: ...

    async def __aexit__(self, *error: Any) -> None: ...

    async def prepare(self, batch: Batch, instances: Sequence[Any]) -> Batch:
        """The batch for `run`, by the model's own signature, from accepted instances."""

    def run_for(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The outputs to ask `run` for."""

    async def finish(self, outputs: Outputs, asked: Sequence[str]) -> Outputs:
        """The outputs that were asked for."""


class Pipeline(Protocol):
    """The steps of one version; `app.core.steps.pipeline.Pipeline` is one."""

    @property
    def manifest(self) -> Manifest:
        """That of the model itself."""

    @property
    def validator(self) -> Validates:
        """That of the model itself."""

    @property
    def public(self) -> Manifest:
        """The manifest as clients see it."""

    @property
    def is_awaited(self) -> bool:
        """Whether every step is async."""

    def visit(self, refusal: Refusal, way: Any) -> Visit:
        """The steps for one request; `way` is an `app.core.steps.event_loop.Way`."""


PipelineFor = Callable[[Manifest], Pipeline | None]
"""Plans the steps that a manifest lists, or raises `LoadingFailed`; None where it lists none."""


def without_steps(manifest: Manifest) -> Pipeline | None:
    """Where no step is ever run: packing, and its checks."""
    return None
