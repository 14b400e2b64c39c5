"""The time limit of each kind of work in one turn of the loop."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

WORK_S = 0.001
"""Longest time for each kind of work in one turn, not counting its last piece."""

WorkT = TypeVar("WorkT")


class ClientTurns(Generic[WorkT]):
    """Work for the loop, by client. Clients take turns, so that none waits for all the work of another."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, deque[WorkT]] = OrderedDict()
        """By client, in the order of their turns; no queue is empty."""
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def append(self, client: Hashable, work: WorkT) -> None:
        """Append a piece of work to its client's queue."""
        queue = self._queues.get(client)
        if queue is None:
            queue = self._queues[client] = deque()
        queue.append(work)
        self._waiting += 1

    def popleft(self) -> WorkT:
        """Take out the first piece of work of the next client."""
        client, queue = self._queues.popitem(last=False)
        self._waiting -= 1
        work = queue.popleft()
        if queue:
            self._queues[client] = queue
        return work


def take_waiting(waiting: deque[WorkT] | ClientTurns[WorkT]) -> Iterator[WorkT]:
    """Take out and yield the waiting work in order, for `WORK_S` at most. The rest stays for the next turn.

    Work that is added meanwhile also stays, so that work that creates work cannot block the loop.
    """
    until_s = time.monotonic() + WORK_S
    for _ in range(len(waiting)):
        yield waiting.popleft()
        if time.monotonic() >= until_s:
            return
