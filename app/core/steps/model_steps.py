"""The steps before and after the run of a model: checked when the model is loaded, and run for each request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.steps.definitions import INSTANCES, KIND_OF, OUTPUTS, Refused, Step, load, shown
from app.core.steps.event_loop import StepRunner
from app.core.steps.services import Services, arguments, arguments_async
from app.errors import (
    InvalidInstances,
    LoadingFailed,
    ModelNotFound,
    RetortError,
    StepFailed,
    StepTimedOut,
    TooManyInstances,
    VersionNotFound,
)
from app.runtime.entry import RefuseInstances
from app.runtime.proving import InstanceValidator
from app.settings import Settings
from app.signature import Input, Signature
from app.signature.batch import Batch, Outputs, json_outputs, json_values, objects_of
from app.signature.field_errors import as_row
from app.storage.manifest import Manifest
from app.telemetry import check_deadline, current_request

log = logging.getLogger(__name__)

_running_models: ContextVar[tuple[str, ...]] = ContextVar("inside", default=())
"""The models whose steps are running, outermost first."""

CALLED_MODEL_ERRORS = (InvalidInstances, TooManyInstances, ModelNotFound, VersionNotFound)
Record = dict[str, Any]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class ModelSteps:
    """The steps of one version. Immutable and safe to share.

    `manifest` and `validator` describe the model itself. `public` is the manifest that clients see: the inputs that
    they send and the outputs that they receive.
    """

    manifest: Manifest
    public: Manifest
    validator: InstanceValidator
    before: tuple[Step, ...]
    after: tuple[Step, ...]
    services: Services
    timeout_s: float

    @cached_property
    def is_awaited(self) -> bool:
        """Whether every step is async, so that a request needs no thread to wait."""
        return all(step.is_async for step in (*self.before, *self.after))

    def start(self, refusal: RefuseInstances, runner: StepRunner) -> StepRun:
        """Return the run of the steps for one request."""
        return StepRun(self, refusal, runner)


class StepRun:
    """The steps of one request, which share their services."""

    def __init__(self, steps: ModelSteps, refusal: RefuseInstances, runner: StepRunner) -> None:
        self._steps = steps
        self._instances: list[Record] = []
        self._refusal = refusal
        self._runner = runner
        self._container = steps.services.container()
        self._deadline_s = min(current_request.get().deadline_s, time.monotonic() + steps.timeout_s)

    async def __aenter__(self) -> StepRun:
        manifest = self._steps.manifest
        outer = _running_models.get()
        if manifest.model in outer:
            step = (*self._steps.before, *self._steps.after)[0]
            raise self._failed(step, f"the model calls itself through {', '.join(outer)}")
        self._token = _running_models.set((*outer, manifest.model))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _running_models.reset(self._token)
        await self._steps.services.clean_up(self._container, self._runner)

    async def prepare(self, batch: Batch, instances: Sequence[Any]) -> Batch:
        """Run the steps before the model and return the batch for the model's own signature.

        `instances` is empty if the decoder read the request; then the batch alone holds them.

        Raises:
            StepFailed, StepTimedOut: a step failed. A RetortError that a step raises itself passes through.
        """
        self._instances = await self._runner.compute(_records, batch, instances, self._steps.public.signature)
        for step in self._steps.before:
            rows = len(self._instances)
            given = {INSTANCES: self._instances} if INSTANCES in step.given else {}
            returned = await self._call(step, given)
            instances = self._instances if returned is None else returned
            if not isinstance(instances, list) or len(instances) != rows:
                raise self._failed(step, f"it must return a list of {rows} instances")
            self._instances = instances
        return await self._runner.compute(self._validate)

    def _validate(self) -> Batch:
        """Return the instances as a batch of the model's own signature."""
        names = self._steps.manifest.signature.names
        try:
            records = [{name: instance[name] for name in names} for instance in self._instances]
            return self._steps.validator.validate(records)
        except (KeyError, TypeError, AttributeError) as error:
            raise self._failed(self._steps.before[-1], f"an instance lacks an input of the model ({error})") from error
        except InvalidInstances as error:
            cause = f"the model does not accept its result: {sentence_of(error)}"
            raise self._failed(self._steps.before[-1], cause) from error

    def outputs_to_run(self, asked: Sequence[str]) -> tuple[str, ...]:
        """Return the outputs to request from the model. Steps after it always see the default outputs too."""
        signature = self._steps.manifest.signature
        defaults = signature.defaults if self._steps.after else ()
        return tuple(dict.fromkeys([*defaults, *(name for name in asked if name in signature.outputs)]))

    async def finish(self, outputs: Outputs, asked: Sequence[str]) -> Outputs:
        """Run the steps after the model and return the requested outputs."""
        if not self._steps.after:
            return outputs
        rows = len(self._instances)
        values = await self._runner.compute(json_outputs, outputs)
        for step in self._steps.after:
            parameters: dict[str, Any] = {OUTPUTS: values, INSTANCES: self._instances}
            given = {name: parameters[name] for name in parameters if name in step.given}
            returned = await self._call(step, given)
            values = values if returned is None else returned
            columns = values.values() if isinstance(values, dict) else [None]
            if not all(isinstance(column, list | tuple | np.ndarray) and len(column) == rows for column in columns):
                raise self._failed(step, f"it must return a dict of lists of {rows} values")
        absent = [name for name in asked if name not in values]
        if absent:
            raise self._failed(self._steps.after[-1], f"outputs {', '.join(absent)} are missing")
        return await self._runner.compute(_arrays, values, asked)

    async def _call(self, step: Step, given: Mapping[str, Any]) -> Any:
        services = self._steps.services
        check_deadline()
        try:
            if step.is_async:
                return await self._runner.wait(_await_step(step, self._container, given), self._deadline_s)
            return step.function(**given, **arguments(self._container, step.services))
        except CALLED_MODEL_ERRORS as error:  # from the step's own call of another model: the client cannot correct it
            raise self._failed(step, sentence_of(error), error) from error
        except RetortError:
            raise
        except Refused as refused:
            raise self._refusal(refused.wrong) from None
        except services.timeouts as error:
            log.warning("step %s of model %s timed out: %r", step.name, self._steps.manifest.model, error)
            manifest = self._steps.manifest
            raise StepTimedOut(step.name, manifest.model, manifest.version) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # the request itself was cancelled
                raise
            raise self._failed(step, "it was cancelled", error) from error
        except (Exception, SystemExit) as error:
            raise self._failed(step, f"{type(error).__name__}: {error}", error) from error

    def _failed(self, step: Step, cause: str, error: BaseException | None = None) -> StepFailed:
        manifest = self._steps.manifest
        log.error(
            "step %s of model %s version %d: %s", step.name, manifest.model, manifest.version, cause, exc_info=error
        )
        return StepFailed(step.name, manifest.model, manifest.version, cause)


def sentence_of(error: RetortError) -> str:
    """Return an error as one sentence, with the first few bad fields."""
    fields = "; ".join(f"{field.pointer} {field.detail}" for field in getattr(error, "errors", ())[:5])
    return f"{error.detail}: {fields}" if fields else error.detail


async def _await_step(step: Step, container: Any, given: Mapping[str, Any]) -> Any:
    return await step.function(**given, **await arguments_async(container, step.services))


# --- values


def _records(batch: Batch, instances: Sequence[Any], signature: Signature) -> list[Record]:
    """Return accepted instances as records. Each is a new dict, which steps may change."""
    names = signature.names
    if len(instances) == batch.rows and batch.rows:
        return [
            dict(instance) if isinstance(instance, dict) else dict(zip(names, as_row(instance), strict=True))
            for instance in instances
        ]
    columns = [json_values(batch.columns[name]) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _arrays(values: Mapping[str, Any], asked: Sequence[str]) -> Outputs:
    return {name: _array(values[name]) for name in asked}


def _array(column: Any) -> NDArray[Any]:
    """Return values as an array: numeric if they are numbers of one type, else of objects."""
    if isinstance(column, np.ndarray):
        return column
    types = {type(value) for value in column}
    if len(types) == 1 and types <= {int, float, bool}:
        array = np.asarray(column)
        if array.dtype.kind in "ifb":
            return array
    return objects_of(column)


# --- planning


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
        before = tuple(_find_step(name, services) for name in manifest.before)
        after = tuple(_find_step(name, services) for name in manifest.after)
        for step in (*before, *after):
            _require_services(step, services)
        for step in before:
            if OUTPUTS in step.given:
                raise LoadingFailed(f"step {step.name!r} asks for outputs, which do not exist before the run")
        public = _public_manifest(manifest, before, after)
        return ModelSteps(manifest, public, validator_for(manifest.signature), before, after, services, timeout_s)

    return services, plan


def _find_step(name: str, services: Services) -> Step:
    steps = services.module.steps
    if name not in steps:
        known = f"known steps: {', '.join(sorted(steps))}" if steps else "RETORT_STEPS names no module with steps"
        raise LoadingFailed(f"it lists {name!r}, an unknown step; {known}")
    return steps[name]


def _require_services(step: Step, services: Services) -> None:
    for parameter, type_ in step.services.items():
        if type_ not in services.registry:
            raise LoadingFailed(
                f"step {step.name!r} asks for {parameter}: {shown(type_)}, but no factory provides it: "
                "write a @factory for it" + (", or set DATABASE_URL" if shown(type_).startswith("sqlalchemy.") else "")
            )
        if services.awaited(type_) and not step.is_async:
            raise LoadingFailed(f"step {step.name!r} asks for {shown(type_)}, which only an `async def` step can have")


def _public_manifest(manifest: Manifest, before: Sequence[Step], after: Sequence[Step]) -> Manifest:
    """Return the manifest that clients see. It has no examples, because steps may change inputs and outputs."""
    signature = manifest.signature
    inputs_of_model = set(signature.names)
    provided_by_steps = {name for step in before for name in step.provides}
    needs: dict[str, Any] = {}
    provided: set[str] = set()
    for step in before:
        unmet = {key: need for key, need in step.needs.items() if key not in provided}
        needs |= {key: need for key, need in unmet.items() if key not in inputs_of_model or key in provided_by_steps}
        provided |= set(step.provides)
    for step in before:
        if step.provides and not inputs_of_model & set(step.provides):
            raise LoadingFailed(
                f"step {step.name!r} provides {', '.join(step.provides)}: none is an input of the model, whose inputs "
                f"are {', '.join(signature.names[:20])}"
            )
    inputs = [_input_for(key, need) for key, need in needs.items()]
    inputs += [spec for spec in signature.inputs if spec.name not in provided_by_steps]
    if not inputs:
        raise LoadingFailed("its steps provide every input, and need none: there is nothing left to send")
    more = tuple(dict.fromkeys(name for step in after for name in step.provides if name not in signature.outputs))
    public = replace(
        signature, inputs=tuple(inputs), outputs=(*signature.outputs, *more), defaults=(*signature.defaults, *more)
    )
    return replace(manifest, signature=public, examples=())


def _input_for(name: str, need: Any) -> Input:
    """Return the input for a field that a step needs."""
    kind, dtype = KIND_OF[need if isinstance(need, type) else type(need)]
    return Input(name, kind, dtype, example=None if isinstance(need, type) else need)
