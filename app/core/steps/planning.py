"""Check the steps that a manifest lists, and derive the manifest that clients see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from app.core.steps.definitions import KIND_OF, OUTPUTS, Step, load, shown
from app.core.steps.model_steps import ModelSteps
from app.core.steps.services import Services
from app.errors import LoadingFailed
from app.runtime.proving import InstanceValidator
from app.settings import Settings
from app.signature import Input, Signature
from app.storage.manifest import Manifest


def plan_steps(
    settings: Settings, validator_for: Callable[[Signature], InstanceValidator]
) -> tuple[Services, Callable[[Manifest], ModelSteps | None]]:
    """Return the services of the steps, and a function that plans the steps of a manifest.

    The function returns None if the manifest lists no steps, and raises LoadingFailed if they cannot be used.

    Raises:
        InvalidSettings: the module that RETORT_STEPS names cannot be used.
    """
    services = Services(load(settings.steps), settings)
    timeout_s = float(settings.request_timeout_s)

    def plan(manifest: Manifest) -> ModelSteps | None:
        if not manifest.before and not manifest.after:
            return None
        before = tuple(_known(name, services) for name in manifest.before)
        after = tuple(_known(name, services) for name in manifest.after)
        for step in (*before, *after):
            _require_services(step, services)
        for step in before:
            if OUTPUTS in step.given:
                raise LoadingFailed(f"step {step.name!r} asks for outputs, which do not exist before the run")
        public = _public(manifest, before, after)
        return ModelSteps(manifest, public, validator_for(manifest.signature), before, after, services, timeout_s)

    return services, plan


def _known(name: str, services: Services) -> Step:
    steps = services.found.steps
    if name not in steps:
        there = f"there are: {', '.join(sorted(steps))}" if steps else "RETORT_STEPS names no module with steps"
        raise LoadingFailed(f"it lists the step {name!r}, which is not known; {there}")
    return steps[name]


def _require_services(step: Step, services: Services) -> None:
    for parameter, type_ in step.services.items():
        if type_ not in services.registry:
            raise LoadingFailed(
                f"step {step.name!r} asks for {parameter}: {shown(type_)}, which nothing offers: "
                "write a @factory for it" + (", or set DATABASE_URL" if shown(type_).startswith("sqlalchemy.") else "")
            )
        if services.awaited(type_) and not step.is_async:
            raise LoadingFailed(f"step {step.name!r} asks for {shown(type_)}, which only an `async def` step can have")


def _public(manifest: Manifest, before: Sequence[Step], after: Sequence[Step]) -> Manifest:
    """Return the manifest that clients see. It has no examples, because steps may change inputs and outputs."""
    signature = manifest.signature
    known = set(signature.names)
    every = {name for step in before for name in step.provides}
    needs: dict[str, Any] = {}
    provided: set[str] = set()
    for step in before:
        asked = {key: need for key, need in step.needs.items() if key not in provided}
        needs |= {key: need for key, need in asked.items() if key not in known or key in every}
        provided |= set(step.provides)
    for step in before:
        if step.provides and not known & set(step.provides):
            raise LoadingFailed(
                f"step {step.name!r} provides {', '.join(step.provides)}: none is an input of the model, whose inputs "
                f"are {', '.join(signature.names[:20])}"
            )
    inputs = [_need(key, need) for key, need in needs.items()]
    inputs += [spec for spec in signature.inputs if spec.name not in every]
    if not inputs:
        raise LoadingFailed("its steps provide every input, and need none: there is nothing left to send")
    more = tuple(dict.fromkeys(name for step in after for name in step.provides if name not in signature.outputs))
    seen = replace(
        signature, inputs=tuple(inputs), outputs=(*signature.outputs, *more), defaults=(*signature.defaults, *more)
    )
    return replace(manifest, signature=seen, examples=())


def _need(name: str, need: Any) -> Input:
    """Return the input for a field that a step needs."""
    kind, dtype = KIND_OF[need if isinstance(need, type) else type(need)]
    return Input(name, kind, dtype, example=None if isinstance(need, type) else need)
