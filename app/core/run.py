"""Run a model for one request, or once for several.

Its exceptions become ModelFailed, and its outputs are checked against the batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.errors import DeadlineExceeded, ModelFailed, RetortError
from app.runtime.batching import JoiningServable
from app.runtime.entry import Lease
from app.signature.batch import Batch, Outputs
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
