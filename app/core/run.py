"""Run a model for one request, once for several, or for the blocks of a stream.

Its exceptions become ModelFailed, and its outputs are checked against the batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.core.answer import Answer
from app.errors import DeadlineExceeded, InvalidInstances, ModelFailed, RetortError
from app.runtime.batching import JoiningServable
from app.runtime.entry import Lease
from app.signature.batch import Batch, Outputs
from app.signature.field_errors import in_row
from app.signature.watch import NO_WARNINGS, Warnings
from app.telemetry import RequestScope, check_deadline, current_request, mark_progress, scope_of

log = logging.getLogger(__name__)


def run(lease: Lease, batch: Batch, names: Sequence[str]) -> Outputs:
    """Return the outputs, each with one entry for each row of the batch. An empty batch does not run the model.

    Raises:
        DeadlineExceeded: the run did not begin in time.
        ModelFailed: the model raised, or its outputs do not fit the batch.
    """
    if batch.rows == 0:
        return {name: np.empty(0) for name in names}
    check_deadline()
    try:
        outputs = lease.servable.run(batch, names)
    except DeadlineExceeded:
        raise
    except (Exception, SystemExit) as error:
        log.exception("model %s version %d raised", lease.manifest.model, lease.manifest.version)
        raise ModelFailed(lease.manifest.model, lease.manifest.version, str(error)) from error
    mark_progress()
    for name in names:
        if outputs[name].ndim == 0 or len(outputs[name]) != batch.rows:
            cause = f"{name} has shape {outputs[name].shape} for a batch of {batch.rows} rows"
            log.error("model %s version %d: %s", lease.manifest.model, lease.manifest.version, cause)
            raise ModelFailed(lease.manifest.model, lease.manifest.version, cause)
    return outputs


def run_each(lease: Lease, asked: Sequence[tuple[Batch, tuple[str, ...]]]) -> list[Outputs | RetortError]:
    """Return for each batch its outputs or the error of its run. A servable that joins requests runs them together."""
    shared: Sequence[Outputs | RetortError | None] = [None] * len(asked)
    if len(asked) > 1 and isinstance(lease.servable, JoiningServable):
        shared = lease.servable.run_each(asked)
        mark_progress()
    return [_run_alone(lease, *each) if found is None else found for each, found in zip(asked, shared, strict=True)]


def _run_alone(lease: Lease, batch: Batch, names: Sequence[str]) -> Outputs | RetortError:
    try:
        return run(lease, batch, names)
    except RetortError as error:
        return error


@dataclass(slots=True, eq=False)
class _ReadyBatch:
    """A batch that is ready to run, and the coroutine that waits for its outputs."""

    batch: Batch
    names: tuple[str, ...]
    scope: RequestScope
    outputs: asyncio.Future[Outputs]


class TurnRuns:
    """Collects the batches of one turn of the event loop, and runs them together. Belongs to the loop's thread."""

    def __init__(self) -> None:
        self._ready: dict[Lease, list[_ReadyBatch]] = {}

    async def run(self, lease: Lease, batch: Batch, names: tuple[str, ...]) -> Outputs:
        """Return the outputs of a batch, which runs at the end of this turn. Raises as the function `run`."""
        loop = asyncio.get_running_loop()
        ready = self._ready.get(lease)
        if ready is None:
            ready = self._ready[lease] = []
            loop.call_soon(self._run, lease)
        this = _ReadyBatch(batch, names, current_request.get(), loop.create_future())
        ready.append(this)
        return await this.outputs

    def _run(self, lease: Lease) -> None:
        ready = [each for each in self._ready.pop(lease) if not each.outputs.done()]  # without cancelled ones
        if not ready:
            return
        current_request.set(scope_of([each.scope for each in ready]))  # in the context of this call alone
        found: Sequence[Outputs | Exception]
        try:
            found = run_each(lease, [(each.batch, each.names) for each in ready])
        except Exception as error:  # noqa: BLE001 - whatever it is, no coroutine may wait for ever
            found = [error] * len(ready)
        for each, outputs in zip(ready, found, strict=True):
            if isinstance(outputs, Exception):
                each.outputs.set_exception(outputs)
            else:
                each.outputs.set_result(outputs)


# --- streams: instances arrive in blocks, and each block is answered alone


@dataclass(frozen=True, slots=True)
class PartialAnswer:
    """The answer to one block, in which some instances may be refused.

    `answer` holds the accepted instances in their order. `refused` and `warnings` are by position in the block.
    """

    answer: Answer
    refused: Mapping[int, RetortError]
    warnings: Mapping[int, Warnings]


class PredictionStream:
    """Answers blocks of instances of one request. Holds a lease until `close`."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease.__enter__()
        self.model = lease.manifest.model
        self.version = lease.manifest.version
        self.rows = 0
        """Instances answered so far."""

    @property
    def most_instances(self) -> int:
        """The largest number of instances in one block."""
        return self._lease.validator.max_instances

    def predict(self, instances: Sequence[Any]) -> PartialAnswer:
        """Return the default outputs of the acceptable instances. Errors of single instances are not raised."""
        refused = dict[int, RetortError]()
        kept = dict(enumerate(instances))
        batch, warnings = self._accepted(instances) or self._acceptable(kept, refused)
        try:
            outputs = run(self._lease, batch, self._lease.manifest.signature.defaults)
        except DeadlineExceeded as error:
            refused |= dict.fromkeys(kept, error)
            outputs = self._each_alone({}, refused)
        except ModelFailed:
            outputs = self._each_alone(kept, refused)
        self.rows += len(instances) - len(refused)
        new = {at: warnings[row] for row, at in enumerate(kept) if warnings.get(row)}
        return PartialAnswer(Answer.of(self._lease.manifest, outputs, NO_WARNINGS), refused, new)

    def _accepted(self, instances: Sequence[Any]) -> tuple[Batch, Mapping[int, Warnings]] | None:
        """Return the instances as a batch with the warnings of each row; None if one is not acceptable."""
        with contextlib.suppress(InvalidInstances):  # else it would be the context of later errors
            batch = self._lease.validator.accepted(instances)
            return None if batch is None else (batch, self._news(batch, instances))
        return None

    def _news(self, batch: Batch, instances: Sequence[Any]) -> Mapping[int, Warnings]:
        watch = self._lease.validator.watch
        return {} if watch is None else watch.check_each(batch, lambda row: ("#", in_row(instances[row])))

    def _acceptable(
        self, kept: dict[int, Any], refused: dict[int, RetortError]
    ) -> tuple[Batch, Mapping[int, Warnings]]:
        """Like `_accepted`, but move unacceptable instances from `kept` to `refused` and keep the others.

        Instances that pass the cheap rules are validated together, so that a bad instance costs the others little.
        """
        validator = self._lease.validator
        for position, looks_good in zip([*kept], validator.look_acceptable([*kept.values()]), strict=True):
            if not looks_good:
                self._alone(position, kept, refused)
        if (accepted := self._accepted([*kept.values()])) is not None:
            return accepted
        alone = [each for position in [*kept] if (each := self._alone(position, kept, refused)) is not None]
        batch = Batch.joined([each for each, _ in alone] or [validator.validate([])])
        return batch, {row: each for row, (_, warnings) in enumerate(alone) for each in warnings.values()}

    def _alone(
        self, position: int, kept: dict[int, Any], refused: dict[int, RetortError]
    ) -> tuple[Batch, Mapping[int, Warnings]] | None:
        """Return an instance as a batch of one; if it is not acceptable, move it to `refused` and return None."""
        try:
            # A line of a stream is its own document: pointers begin at the instance.
            batch = self._lease.validator.validate([kept[position]], "#", single=True)
            return batch, self._news(batch, [kept[position]])
        except InvalidInstances as error:
            # Its traceback would keep the whole block in memory.
            refused[position] = error.with_traceback(None)
            del kept[position]
            return None

    def _each_alone(self, kept: Mapping[int, Any], refused: dict[int, RetortError]) -> Outputs:
        """Run each kept instance alone and join the outputs. Move failing instances to `refused`."""
        names = self._lease.manifest.signature.defaults
        found = []
        for position, instance in kept.items():
            try:
                found.append(run(self._lease, self._lease.validator.validate([instance]), names))
            except (ModelFailed, DeadlineExceeded) as error:
                refused[position] = error.with_traceback(None)
        return {name: np.concatenate([each[name] for each in found]) if found else np.empty(0) for name in names}

    def close(self) -> None:
        """Release the lease."""
        self._lease.__exit__(None, None, None)
