"""Run a model for one request, once for several requests, or for the blocks of a stream.

Exceptions of the model become ModelFailed. The number of outputs must fit the batch.
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


def run_each(lease: Lease, requests: Sequence[tuple[Batch, tuple[str, ...]]]) -> list[Outputs | RetortError]:
    """Return the outputs of each batch, or the error of its run. A servable that joins batches runs them together."""
    shared: Sequence[Outputs | RetortError | None] = [None] * len(requests)
    if len(requests) > 1 and isinstance(lease.servable, JoiningServable):
        shared = lease.servable.run_each(requests)
        mark_progress()
    return [
        _run_alone(lease, *request) if outputs is None else outputs
        for request, outputs in zip(requests, shared, strict=True)
    ]


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
    """The batches of one turn of the event loop, which run together. Used on the loop's thread only."""

    def __init__(self) -> None:
        self._ready: dict[Lease, list[_ReadyBatch]] = {}

    async def run(self, lease: Lease, batch: Batch, names: tuple[str, ...]) -> Outputs:
        """Return the outputs of a batch, which runs at the end of this turn. Raises like the function `run`."""
        loop = asyncio.get_running_loop()
        ready = self._ready.get(lease)
        if ready is None:
            ready = self._ready[lease] = []
            loop.call_soon(self._run, lease)
        this = _ReadyBatch(batch, names, current_request.get(), loop.create_future())
        ready.append(this)
        return await this.outputs

    def _run(self, lease: Lease) -> None:
        ready = [waiting for waiting in self._ready.pop(lease) if not waiting.outputs.done()]  # without cancelled ones
        if not ready:
            return
        current_request.set(scope_of([waiting.scope for waiting in ready]))  # in the context of this call alone
        results: Sequence[Outputs | Exception]
        try:
            results = run_each(lease, [(waiting.batch, waiting.names) for waiting in ready])
        except Exception as error:  # noqa: BLE001 - after any error, no coroutine may wait forever
            results = [error] * len(ready)
        for waiting, result in zip(ready, results, strict=True):
            if isinstance(result, Exception):
                waiting.outputs.set_exception(result)
            else:
                waiting.outputs.set_result(result)


# --- Predict for a stream, block by block


@dataclass(frozen=True, slots=True)
class PartialAnswer:
    """The answer to one block, in which some instances may be refused.

    `answer` holds the accepted instances in their order. `refused` and `warnings` are by position in the block.
    """

    answer: Answer
    refused: Mapping[int, RetortError]
    warnings: Mapping[int, Warnings]


class PredictionStream:
    """Predictions for one request whose instances arrive in blocks. Keeps its lease until `close`."""

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
        """Return the default outputs of the valid instances, and the error of each refused one."""
        refused = dict[int, RetortError]()
        kept = dict(enumerate(instances))
        batch, warnings = self._validate_all(instances) or self._validate_rest(kept, refused)
        try:
            outputs = run(self._lease, batch, self._lease.manifest.signature.defaults)
        except DeadlineExceeded as error:
            refused |= dict.fromkeys(kept, error)
            outputs = self._run_one_by_one({}, refused)
        except ModelFailed:
            outputs = self._run_one_by_one(kept, refused)
        self.rows += len(instances) - len(refused)
        by_position = {at: warnings[row] for row, at in enumerate(kept) if warnings.get(row)}
        return PartialAnswer(Answer.of(self._lease.manifest, outputs, NO_WARNINGS), refused, by_position)

    def _validate_all(self, instances: Sequence[Any]) -> tuple[Batch, Mapping[int, Warnings]] | None:
        """Return the instances as a batch, and its warnings by row; None if an instance is not valid."""
        with contextlib.suppress(InvalidInstances):  # otherwise it would be the context of later errors
            batch = self._lease.validator.accepted(instances)
            return None if batch is None else (batch, self._warnings_of(batch, instances))
        return None

    def _warnings_of(self, batch: Batch, instances: Sequence[Any]) -> Mapping[int, Warnings]:
        watch = self._lease.validator.watch
        return {} if watch is None else watch.check_each(batch, lambda row: ("#", in_row(instances[row])))

    def _validate_rest(
        self, kept: dict[int, Any], refused: dict[int, RetortError]
    ) -> tuple[Batch, Mapping[int, Warnings]]:
        """Move invalid instances from `kept` to `refused`, and return the others like `_validate_all`.

        Instances that pass the cheap rules are validated together, so that a bad instance does not slow down the
        others.
        """
        validator = self._lease.validator
        for position, looks_good in zip([*kept], validator.look_acceptable([*kept.values()]), strict=True):
            if not looks_good:
                self._validate_one(position, kept, refused)
        if (together := self._validate_all([*kept.values()])) is not None:
            return together
        valid = [one for position in [*kept] if (one := self._validate_one(position, kept, refused)) is not None]
        batch = Batch.joined([one_row for one_row, _ in valid] or [validator.validate([])])
        return batch, {row: warning for row, (_, warnings) in enumerate(valid) for warning in warnings.values()}

    def _validate_one(
        self, position: int, kept: dict[int, Any], refused: dict[int, RetortError]
    ) -> tuple[Batch, Mapping[int, Warnings]] | None:
        """Return an instance as a batch of one; if it is not valid, move it to `refused` and return None."""
        try:
            # Each line of a stream is a document of its own: pointers begin at the instance.
            batch = self._lease.validator.validate([kept[position]], "#", single=True)
            return batch, self._warnings_of(batch, [kept[position]])
        except InvalidInstances as error:
            # Its traceback would keep the whole block in memory.
            refused[position] = error.with_traceback(None)
            del kept[position]
            return None

    def _run_one_by_one(self, kept: Mapping[int, Any], refused: dict[int, RetortError]) -> Outputs:
        """Run each kept instance alone and join the outputs. Add the errors of failing instances to `refused`."""
        names = self._lease.manifest.signature.defaults
        rows = []
        for position, instance in kept.items():
            try:
                rows.append(run(self._lease, self._lease.validator.validate([instance]), names))
            except (ModelFailed, DeadlineExceeded) as error:
                refused[position] = error.with_traceback(None)
        return {name: np.concatenate([row[name] for row in rows]) if rows else np.empty(0) for name in names}

    def close(self) -> None:
        """Release the lease."""
        self._lease.__exit__(None, None, None)
