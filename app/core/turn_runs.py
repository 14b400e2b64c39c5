"""Run a quick model once for the requests that become ready in one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from app.core.run import run_each
from app.runtime.entry import Lease
from app.signature.batch import Batch, Outputs
from app.telemetry import RequestScope, current_request, scope_of


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
        """Return the outputs of a batch, which runs at the end of this turn.

        Raises:
            ModelFailed, DeadlineExceeded: as `run` in `app/core/run.py`.
        """
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
