"""Micro-batching: several requests share one run of a model.

`JoiningServable` joins the requests that one thread has at once. `BatchingServable` also joins requests that arrive
during a run: they share the next run. A lone request runs immediately in its own thread; there is no timer and no
additional thread. The thread that ends a run wakes the first waiting request, which runs for every request that fits
beside it. So the model of a `BatchingServable` is never idle while a request waits, and never runs twice at once.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.errors import DeadlineExceeded
from app.runtime.servable import Compose, Servable
from app.signature import EXPLANATION
from app.signature.batch import Batch, Outputs
from app.storage.manifest import Manifest
from app.telemetry import RequestScope, current_request, mark_progress, scope_of

log = logging.getLogger(__name__)

PAYS_BELOW = 8
"""Sharing pays if a run of 32 rows costs less than this many runs of one row."""


def batching_pays(cost_us: Mapping[str, float]) -> bool:
    """Return whether requests gain by sharing a run, from the microseconds that 1 and 32 rows took at packing."""
    return "32" in cost_us and cost_us["32"] < PAYS_BELOW * cost_us["1"]


def batching(mode: str, max_batch_rows: int, max_wait_s: float) -> Compose:
    """Return a composer that lets requests share runs.

    Requests share a run of an artifact if they wait for it, and a run of a graph if one thread has them at once. The
    mode is "auto" (where sharing pays), "on" (where it is possible) or "off". Packing measures 32 rows only if the
    model gives a row the same answer in a batch as alone. A request waits at most `max_wait_s` for its turn.
    """

    def compose(servable: Servable, runtime: str, manifest: Manifest) -> Servable:
        cost_us = manifest.artifact_cost_us
        if runtime == "graph":
            return JoiningServable(servable, max_batch_rows) if "32" in cost_us and mode != "off" else servable
        shares = {"auto": batching_pays(cost_us), "on": "32" in cost_us, "off": False}[mode]
        return BatchingServable(servable, max_batch_rows, max_wait_s) if shares else servable

    return compose


def fitting(waiting: Sequence[tuple[int, object]], max_batch_rows: int) -> list[int]:
    """Return the positions of waiting requests that run together: the first, and later ones that fit.

    `waiting` has rows and requested outputs in order of arrival. The first always runs, however many rows it has.
    Others need the same outputs, and the sum of rows is limited.
    """
    if not waiting:
        return []
    rows, outputs = waiting[0]
    members = [0]
    for position, (more_rows, other_outputs) in enumerate(waiting[1:], start=1):
        if other_outputs == outputs and rows + more_rows <= max_batch_rows:
            members.append(position)
            rows += more_rows
    return members


@dataclass(slots=True, eq=False)
class _Ticket:
    """One waiting request.

    `woken` is released when `answer` is set, or when this request must run for its `group`.
    """

    batch: Batch
    outputs: tuple[str, ...]
    woken: threading.Lock = field(default_factory=threading.Lock)
    group: list[_Ticket] | None = None
    answer: Outputs | BaseException | None = None
    scope: RequestScope = field(default_factory=current_request.get)
    """The waiting request. It makes progress with the shared run, which may be in another thread."""

    def __post_init__(self) -> None:
        self.woken.acquire()


class JoiningServable:
    """A servable that joins the batches of one `run_each`. Safe to call from many threads.

    Requests in one run have the same outputs. If a shared run fails, each request runs alone, so that only bad requests
    fail.
    """

    def __init__(self, servable: Servable, max_batch_rows: int) -> None:
        self._servable = servable
        self._max_batch_rows = max_batch_rows

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Run this batch alone and return its outputs. Raises whatever the servable inside raises."""
        return self._servable.run(batch, outputs)

    def run_each(self, requests: Sequence[tuple[Batch, tuple[str, ...]]]) -> list[Outputs | DeadlineExceeded | None]:
        """Return the outputs of each of these batches, in as few runs as possible.

        An entry is None if its batch must run alone: nothing fits beside it, or its shared run failed.
        """
        results: list[Outputs | DeadlineExceeded | None] = [None] * len(requests)
        waiting = list(range(len(requests)))
        while waiting:
            positions = fitting([(requests[at][0].rows, requests[at][1]) for at in waiting], self._max_batch_rows)
            members = [waiting[position] for position in positions]
            joined = set(members)
            waiting = [at for at in waiting if at not in joined]
            if len(members) == 1:
                continue
            batches = [requests[at][0] for at in members]
            parts: Sequence[Outputs | DeadlineExceeded] = ()
            try:
                parts = divided(self.run(Batch.joined(batches, len(batches)), requests[members[0]][1]), batches)
            except DeadlineExceeded as error:
                parts = [error] * len(members)
            except (Exception, SystemExit):  # a model may raise anything; one bad request must not fail others
                log.exception("a shared run failed; its %d requests are run alone", len(members))
            for at, part in zip(members, parts, strict=bool(parts)):
                results[at] = part
        return results


class BatchingServable(JoiningServable):
    """A servable that also joins requests of several threads. It never runs the servable inside twice at once."""

    def __init__(self, servable: Servable, max_batch_rows: int, max_wait_s: float) -> None:
        super().__init__(servable, max_batch_rows)
        self._max_wait_s = max_wait_s
        self._lock = threading.Lock()
        self._busy = False
        self._waiting: deque[_Ticket] = deque()

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the outputs of this batch, from a run that it may share with others.

        Raises:
            DeadlineExceeded: its turn did not come within the longest wait.
            Exception: whatever the servable inside raises for this batch alone.
        """
        if EXPLANATION in outputs:  # it may run thousands of rows, so no other request waits for it
            return self._servable.run(batch, outputs)
        with self._lock:
            if not self._busy:
                self._busy = True
                ticket = None
            else:
                ticket = _Ticket(batch, tuple(outputs))
                self._waiting.append(ticket)
        if ticket is None:
            try:
                return self._servable.run(batch, outputs)
            finally:
                self._appoint_next()
        return self._wait(ticket)

    def _wait(self, ticket: _Ticket) -> Outputs:
        if not ticket.woken.acquire(timeout=self._max_wait_s):
            with self._lock:
                late = ticket in self._waiting
                if late:
                    self._waiting.remove(ticket)
            if late:
                raise DeadlineExceeded(self._max_wait_s)
            ticket.woken.acquire()  # a run has just taken this request: wait for its end
        if ticket.group is not None:
            try:
                self._run_together(ticket.group)
            finally:
                self._appoint_next()
        if isinstance(ticket.answer, BaseException):
            raise ticket.answer
        if ticket.answer is None:
            raise AssertionError("woken without an answer")
        return ticket.answer

    def _appoint_next(self) -> None:
        """Wake the first waiting request, to run for all that fit. If none waits, mark the model as free."""
        with self._lock:
            positions = fitting([(t.batch.rows, t.outputs) for t in self._waiting], self._max_batch_rows)
            self._busy = bool(positions)
            if not positions:
                return
            group = [self._waiting[position] for position in positions]
            for ticket in group:
                self._waiting.remove(ticket)
        group[0].group = group
        group[0].woken.release()

    def _run_together(self, group: list[_Ticket]) -> None:
        """Run a group, set the answer of each ticket, and wake the others even after a failure."""
        token = current_request.set(scope_of([ticket.scope for ticket in group]))
        try:
            if len(group) == 1:
                group[0].answer = self._run_alone(group[0])
                return
            try:
                answers: Sequence[Outputs | BaseException] = self._run_joined(group)
            except (Exception, SystemExit):  # noqa: BLE001 (a model may raise anything)
                answers = [self._run_alone(ticket) for ticket in group]
            for ticket, answer in zip(group, answers, strict=True):
                ticket.answer = answer
        finally:
            current_request.reset(token)
            for ticket in group[1:]:
                ticket.answer = ticket.answer or RuntimeError("the shared run ended without an answer")
                ticket.woken.release()

    def _run_alone(self, ticket: _Ticket) -> Outputs | BaseException:
        try:
            return self._servable.run(ticket.batch, ticket.outputs)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (raised again in the thread of its own request)
            return error
        finally:
            mark_progress()

    def _run_joined(self, group: list[_Ticket]) -> Sequence[Outputs]:
        batches = [ticket.batch for ticket in group]
        return divided(self._servable.run(Batch.joined(batches, len(batches)), group[0].outputs), batches)


def divided(outputs: Outputs, batches: Sequence[Batch]) -> list[Outputs]:
    """Split the outputs of joined batches into the outputs of each batch.

    Raises:
        ValueError: an output does not have one entry for each row.
    """
    ends = list(itertools.accumulate(batch.rows for batch in batches))
    if any(len(array) != ends[-1] for array in outputs.values()):
        raise ValueError("outputs that do not fit the batch cannot be divided")
    return [
        {name: array[end - batch.rows : end] for name, array in outputs.items()}
        for end, batch in zip(ends, batches, strict=True)
    ]
