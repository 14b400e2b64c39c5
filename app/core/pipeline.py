"""The steps of one model around its run: what the client sends and gets, and what is done with it before and after."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.event_loop import Way
from app.core.services import Services, arguments, arguments_soon
from app.core.steps import INSTANCES, OUTPUTS, Refused, Step
from app.errors import (
    InvalidInstances,
    ModelNotFound,
    RetortError,
    StepFailed,
    StepTimedOut,
    TooManyInstances,
    VersionNotFound,
)
from app.runtime.pipeline import Refusal
from app.runtime.proving import Validates
from app.signature import Signature
from app.signature.batch import Batch, Outputs, json_values
from app.signature.pointers import as_row
from app.storage.manifest import Manifest
from app.telemetry import check_deadline, current_request

log = logging.getLogger(__name__)

_inside: ContextVar[tuple[str, ...]] = ContextVar("inside", default=())
"""The models whose steps are running, outermost first."""

NOT_THE_CLIENTS = (InvalidInstances, TooManyInstances, ModelNotFound, VersionNotFound)
Record = dict[str, Any]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Pipeline:
    """The steps of one version. Immutable, safe to share; `manifest` and `validator` are those of the model itself.

    `public` is the manifest as clients see it: the inputs that they send, the outputs that they get.
    """

    manifest: Manifest
    public: Manifest
    validator: Validates
    before: tuple[Step, ...]
    after: tuple[Step, ...]
    services: Services
    timeout_s: float

    @cached_property
    def is_awaited(self) -> bool:
        """Whether every step is async: then a request needs no thread to wait."""
        return all(step.waits for step in (*self.before, *self.after))

    def visit(self, refusal: Refusal, way: Way) -> Visit:
        """The steps for one request."""
        return Visit(self, refusal, way)


class Visit:
    """The steps of one request, which share their services. Belongs to one request."""

    def __init__(self, pipeline: Pipeline, refusal: Refusal, way: Way) -> None:
        self._pipeline = pipeline
        self._instances: list[Record] = []
        self._refusal = refusal
        self._way = way
        self._container = pipeline.services.container()
        self._deadline_s = min(current_request.get().deadline_s, time.monotonic() + pipeline.timeout_s)

    async def __aenter__(self) -> Visit:
        manifest = self._pipeline.manifest
        outer = _inside.get()
        if manifest.model in outer:
            step = (*self._pipeline.before, *self._pipeline.after)[0]
            raise self._failed(step, f"the model asks itself, by way of {', '.join(outer)}")
        self._token = _inside.set((*outer, manifest.model))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _inside.reset(self._token)
        await self._pipeline.services.leave(self._container, self._way)

    async def prepare(self, batch: Batch, instances: Sequence[Any]) -> Batch:
        """What `run` takes: the instances after the steps before it, as the model's own signature has them.

        Of accepted instances, those that the decoder read are in the batch alone.

        Raises:
            StepFailed, StepTimedOut: a step could not; or its own error, where it is one of ours.
        """
        self._instances = await self._way.compute(_records, batch, instances, self._pipeline.public.signature)
        for step in self._pipeline.before:
            rows = len(self._instances)
            given = {INSTANCES: self._instances} if INSTANCES in step.given else {}
            made = await self._call(step, given)
            if made is None:
                made = self._instances
            if not isinstance(made, list) or len(made) != rows:
                raise self._failed(step, f"it gave no list of {rows} instances")
            self._instances = made
        return await self._way.compute(self._validated)

    def _validated(self) -> Batch:
        """The instances as the model's own signature has them."""
        names = self._pipeline.manifest.signature.names
        try:
            wanted = [{name: instance[name] for name in names} for instance in self._instances]
            return self._pipeline.validator.validate(wanted)
        except (KeyError, TypeError, AttributeError) as error:
            raise self._failed(
                self._pipeline.before[-1], f"an instance lacks an input of the model ({error})"
            ) from error
        except InvalidInstances as error:
            cause = f"the model does not accept what it gave: {told(error)}"
            raise self._failed(self._pipeline.before[-1], cause) from error

    def run_for(self, asked: Sequence[str]) -> tuple[str, ...]:
        """The outputs that `run` is asked for; steps after it see its usual ones as well."""
        signature = self._pipeline.manifest.signature
        usual = signature.defaults if self._pipeline.after else ()
        return tuple(dict.fromkeys([*usual, *(name for name in asked if name in signature.outputs)]))

    async def finish(self, outputs: Outputs, asked: Sequence[str]) -> Outputs:
        """The outputs after the steps after `run`."""
        if not self._pipeline.after:
            return outputs
        rows = len(self._instances)
        values = await self._way.compute(_values, outputs)
        for step in self._pipeline.after:
            given = {
                name: each for name, each in ((OUTPUTS, values), (INSTANCES, self._instances)) if name in step.given
            }
            made = await self._call(step, given)
            values = values if made is None else made
            if not (isinstance(values, dict) and all(_is_column(column, rows) for column in values.values())):
                raise self._failed(step, f"it gave no dict of lists of {rows} values")
        absent = [name for name in asked if name not in values]
        if absent:
            raise self._failed(self._pipeline.after[-1], f"outputs {', '.join(absent)} are not there")
        return await self._way.compute(_arrays, values, asked)

    async def _call(self, step: Step, given: Mapping[str, Any]) -> Any:
        """What a step returns."""
        services = self._pipeline.services
        check_deadline()
        try:
            if step.waits:
                return await self._way.wait(_awaited(step, self._container, given), self._deadline_s)
            return step.function(**given, **arguments(self._container, step.services))
        except NOT_THE_CLIENTS as error:  # what the step asked of another model: the client cannot mend it
            raise self._failed(step, told(error), error) from error
        except RetortError:
            raise
        except Refused as refused:
            raise self._refusal(refused.wrong) from None
        except services.timeouts as error:
            log.warning("step %s of model %s timed out: %r", step.name, self._pipeline.manifest.model, error)
            manifest = self._pipeline.manifest
            raise StepTimedOut(step.name, manifest.model, manifest.version) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():  # the request is given up
                raise
            raise self._failed(step, "it was cancelled", error) from error
        except (Exception, SystemExit) as error:
            raise self._failed(step, f"{type(error).__name__}: {error}", error) from error

    def _failed(self, step: Step, cause: str, error: BaseException | None = None) -> StepFailed:
        manifest = self._pipeline.manifest
        log.error(
            "step %s of model %s version %d: %s", step.name, manifest.model, manifest.version, cause, exc_info=error
        )
        return StepFailed(step.name, manifest.model, manifest.version, cause)


def told(error: RetortError) -> str:
    """Return an error as one sentence, with the first few bad fields."""
    fields = "; ".join(f"{each.pointer} {each.detail}" for each in getattr(error, "errors", ())[:5])
    return f"{error.detail}: {fields}" if fields else error.detail


async def _awaited(step: Step, container: Any, given: Mapping[str, Any]) -> Any:
    return await step.function(**given, **await arguments_soon(container, step.services))


# --- values -----------------------------------------------------------------------------------------------------------


def _records(batch: Batch, instances: Sequence[Any], signature: Signature) -> list[Record]:
    """Accepted instances as records, each a dict of its own, which steps may change."""
    names = signature.names
    if len(instances) == batch.rows and batch.rows:
        return [
            dict(instance) if isinstance(instance, dict) else dict(zip(names, as_row(instance), strict=True))
            for instance in instances
        ]
    columns = [json_values(batch.columns[name]) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(outputs: Outputs) -> dict[str, list[Any]]:
    return {name: json_values(array) for name, array in outputs.items()}


def _arrays(values: Mapping[str, Any], asked: Sequence[str]) -> Outputs:
    return {name: _array(values[name]) for name in asked}


def _is_column(column: object, rows: int) -> bool:
    return isinstance(column, list | tuple | np.ndarray) and len(column) == rows


def _array(column: Any) -> NDArray[Any]:
    """Values as an output: numbers of one type side by side, all else one by one."""
    if isinstance(column, np.ndarray):
        return column
    types = {type(value) for value in column}
    if len(types) == 1 and types <= {int, float, bool}:
        array = np.asarray(column)
        if array.dtype.kind in "ifb":
            return array
    by_row = np.empty(len(column), dtype=object)
    for row, value in enumerate(column):
        by_row[row] = value
    return by_row
