"""The state of one version in this process, the steps around it, and the lease of requests that use it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from app.errors import InvalidInstances, ModelQuarantined, ModelUnavailable
from app.runtime.batching import BatchingServable
from app.runtime.explanation import most_explained
from app.runtime.policy import MOVES, State
from app.runtime.proving import InstanceValidator
from app.runtime.servable import Servable
from app.signature import EXPLANATION
from app.storage.manifest import Manifest

log = logging.getLogger(__name__)

QUICK_US = 1000.0
REQUEST_US, BYTE_US = 20.0, 0.4
"""Estimated time for one more request in a run, and for each byte of its body, without the time of the model."""

RefuseInstances = Callable[[Sequence[tuple[int, str, str]]], InvalidInstances]
"""Returns the error for the values that a step refuses, each given as (position, field, message)."""


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
"""Returns the steps that a manifest lists; None if it lists none. Raises `LoadingFailed` if they cannot be used."""


def without_steps(manifest: Manifest) -> PlannedSteps | None:
    """Plan no steps, as packing and its checks do."""
    return None


class Lease:
    """The right to use a loaded version. It counts its users, so that the version is RETIRED after the last of them.

    `Registry.lease` returns an acquired lease. Leaving its `with` block releases it.
    """

    __slots__ = (
        "_byte_us", "_users", "_when_unused", "explains", "gains_together", "is_inline", "is_quick", "manifest",
        "most_explained", "runtime", "servable", "steps", "validator",
    )  # fmt: skip

    def __init__(
        self,
        manifest: Manifest,
        servable: Servable,
        validator: InstanceValidator,
        steps: PlannedSteps | None = None,
        runtime: str = "artifact",
    ) -> None:
        self.manifest = manifest
        self.servable = servable
        self.validator = validator
        self.steps = steps
        self.runtime = runtime
        one_us, many_us = manifest.proof.get("graph_us"), manifest.proof.get("graph_1000_us")
        has_images = any(
            spec.image is not None for spec in manifest.signature.inputs
        )  # a short body may hold a large image
        self.is_quick = runtime == "graph" and isinstance(one_us, float) and one_us < QUICK_US and not has_images
        """Whether one row took less than `QUICK_US` at packing, and a short body is always read quickly."""
        self.is_inline = self.is_quick and steps is None
        self.gains_together = self.is_inline or (steps is None and isinstance(servable, BatchingServable))
        """Whether several requests are answered faster together than one after another."""
        self.explains = EXPLANATION in manifest.signature.outputs
        explanation, signature = manifest.explanation, manifest.signature
        self.most_explained = 0 if explanation is None else most_explained(explanation, signature)
        """Limit of the instances of a request that are explained."""
        row_us = many_us / 1000 if isinstance(many_us, float) else one_us if isinstance(one_us, float) else 0.0
        # A row of a JSON body has at least two bytes for each input.
        self._byte_us = BYTE_US + row_us / (2 * max(1, len(manifest.signature.inputs)))
        # One entry for each user. Appending and popping are atomic, so that requests take no lock.
        self._users: list[None] = []
        self._when_unused: Callable[[], None] | None = None

    def estimate_us(self, body_bytes: int) -> float:
        """Estimate the time that a small request adds to a run of several."""
        return REQUEST_US + body_bytes * self._byte_us

    def acquire(self) -> bool:
        """Count one more user. Return False if the version is being taken out of service."""
        self._users.append(None)
        if self._when_unused is None:
            return True
        self.__exit__()
        return False

    def withdraw(self, when_unused: Callable[[], None]) -> None:
        """Refuse further users. Call `when_unused`, perhaps more than once, when no user is left."""
        self._when_unused = when_unused
        if not self._users:
            when_unused()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *error: object) -> None:
        self._users.pop()
        if self._when_unused is not None and not self._users:
            self._when_unused()


@dataclass(frozen=True, slots=True)
class Entry:
    """The state of one version in this process. Immutable: a move makes a new entry.

    `manifest` is the manifest that clients see. `digest` is the hash of the loaded content, because the repository may
    later have other content under the same number.
    """

    model: str
    version: int
    state: State
    reason: str | None = None
    manifest: Manifest | None = None
    digest: str = ""
    lease: Lease | None = None
    runtime: str = "artifact"
    packed: bool = True

    def moved(self, state: State, reason: str | None = None) -> Entry:
        """Return the entry in its next state. An entry that cannot serve keeps nothing in memory."""
        if state not in MOVES[self.state]:
            raise AssertionError(f"{self.model} {self.version}: {self.state} to {state} is not a legal move")
        if state is State.FAILED:
            version = f" version {self.version}" if self.version else ""  # an artifact that is not packed has none
            log.error("model %s%s failed: %s", self.model, version, reason)
        serves = state in (State.VERIFIED, State.LOADED, State.AVAILABLE)
        return replace(self, state=state, reason=reason or self.reason, lease=self.lease if serves else None)

    def required_lease(self) -> Lease:
        """Return the lease, not acquired.

        Raises:
            ModelUnavailable, ModelQuarantined: the version is not in service.
        """
        if self.lease is None:
            kind = ModelQuarantined if self.state is State.QUARANTINED else ModelUnavailable
            raise kind(self.model, self.version, self.reason or f"its state is {self.state.value}")
        return self.lease
