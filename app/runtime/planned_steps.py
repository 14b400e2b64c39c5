"""The steps around a model as the registry sees them. `app.core.steps` implements and runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from app.errors import InvalidInstances
from app.runtime.proving import InstanceValidator
from app.storage.manifest import Manifest

RefuseInstances = Callable[[Sequence[tuple[int, str, str]]], InvalidInstances]
"""Returns the error for values that a step refuses: (position, field, message) of each."""


class PlannedSteps(Protocol):
    """The steps of one version. Implemented by `app.core.steps.model_steps.ModelSteps`."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the model itself."""

    @property
    def validator(self) -> InstanceValidator:
        """The validator of the model itself."""

    @property
    def public(self) -> Manifest:
        """The manifest that clients see."""

    @property
    def is_awaited(self) -> bool:
        """Whether every step is async."""

    def start(self, refusal: RefuseInstances, runner: Any) -> Any:
        """Return the `StepRun` of one request; `runner` is a `StepRunner`. Only `app.core` calls it."""


StepsFor = Callable[[Manifest], PlannedSteps | None]
"""Plans the steps that a manifest lists, or raises `LoadingFailed`; None if it lists none."""


def without_steps(manifest: Manifest) -> PlannedSteps | None:
    """Plan no steps, as packing and its checks do."""
    return None
