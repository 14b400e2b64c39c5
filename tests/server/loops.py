"""Two ways to send requests: the next after each response, or at a constant rate."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable

from tests.server.load_client import LoadClient, LoadConnection, LoadRequest
from tests.server.served import Outcomes

HANGS_AFTER_S = 20.0
OPEN_LOOP_STEP_S = 0.001
LOOK_S = 0.05


def closed_loop(
    port: int,
    connections: int,
    make: Callable[[], LoadRequest],
    for_s: float,
    most: int = 2**62,
    *,
    pipelined: Callable[[], int] = lambda: 1,
    tick: Callable[[Outcomes, int], None] = lambda outcomes, sent: None,
    tick_s: float = 1.0,
) -> Outcomes:
    """Send requests over connections, each after the last response, for this time or number of requests.

    `tick` is called every `tick_s`, and at the end, with the outcomes and the number of requests.
    """
    outcomes = Outcomes()
    free: deque[LoadConnection | None] = deque([None] * connections)
    sent = 0
    with contextlib.closing(LoadClient(port, outcomes, free.append)) as client:
        now_s = ticked_s = time.monotonic()
        until_s = now_s + for_s
        while now_s < until_s and sent < most:
            for _ in range(len(free)):
                connection = free.popleft()
                if connection is None or connection.closed:
                    connection = client.open()
                if connection is None:
                    free.append(None)
                    continue
                requests = [make() for _ in range(pipelined())]
                sent += len(requests)
                client.ask(connection, *requests)
            client.turn(0.02 if free else 0.1)
            now_s = time.monotonic()
            if now_s - ticked_s >= tick_s:
                ticked_s = now_s
                client.expire(now_s - HANGS_AFTER_S, "hung")
                tick(outcomes, sent)
        client.gather(HANGS_AFTER_S, "hung")
    tick(outcomes, sent)
    return outcomes


def open_loop(
    port: int, per_second: float, for_s: float, make: Callable[[], LoadRequest], patience_s: float
) -> tuple[Outcomes, float]:
    """Send requests at this rate, each with a time-out. Return the outcomes, and the client's largest delay."""
    outcomes = Outcomes()
    free: list[LoadConnection] = []
    again: deque[LoadRequest] = deque()
    sent, behind_s = 0, 0.0
    with contextlib.closing(LoadClient(port, outcomes, free.append)) as client:
        client.retry = again.append

        def ask(request: LoadRequest) -> None:
            connection: LoadConnection | None = None
            while free and (connection is None or connection.closed):
                connection = free.pop()
            if connection is None or connection.closed:
                connection = client.open()
            if connection is not None:
                client.ask(connection, request)

        began_s = looked_s = now_s = time.monotonic()
        while now_s < began_s + for_s:
            while again:
                ask(again.popleft())
            due = (now_s - began_s) * per_second
            behind_s = max(behind_s, (due - sent) / per_second)
            while sent < due:
                sent += 1
                ask(make())
            client.turn(OPEN_LOOP_STEP_S)
            now_s = time.monotonic()
            if now_s - looked_s > LOOK_S:
                looked_s = now_s
                client.expire(now_s - patience_s, "gave up")
        client.gather(patience_s, "gave up")
    return outcomes, behind_s
