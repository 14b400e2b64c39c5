"""Two ways to send requests: the next after each response, or at a constant rate."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable

from tests.server_worker.fleet import Fleet, Line, Question
from tests.server_worker.served import Outcomes

HANGS_AFTER_S = 20.0
OPEN_LOOP_STEP_S = 0.001
LOOK_S = 0.05


def closed_loop(
    port: int,
    lines: int,
    make: Callable[[], Question],
    for_s: float,
    most: int = 2**62,
    *,
    pipelined: Callable[[], int] = lambda: 1,
    tick: Callable[[Outcomes, int], None] = lambda outcomes, asked: None,
    tick_s: float = 1.0,
) -> Outcomes:
    """Send requests over connections, each after the last response, for this time or number of requests.

    `tick` is called every `tick_s`, and at the end, with the outcomes and the number of requests.
    """
    outcomes = Outcomes()
    free: deque[Line | None] = deque([None] * lines)
    asked = 0
    with contextlib.closing(Fleet(port, outcomes, free.append)) as fleet:
        now_s = ticked_s = time.monotonic()
        until_s = now_s + for_s
        while now_s < until_s and asked < most:
            for _ in range(len(free)):
                line = free.popleft()
                if line is None or line.closed:
                    line = fleet.open()
                if line is None:
                    free.append(None)
                    continue
                questions = [make() for _ in range(pipelined())]
                asked += len(questions)
                fleet.ask(line, *questions)
            fleet.turn(0.02 if free else 0.1)
            now_s = time.monotonic()
            if now_s - ticked_s >= tick_s:
                ticked_s = now_s
                fleet.expire(now_s - HANGS_AFTER_S, "hung")
                tick(outcomes, asked)
        fleet.gather(HANGS_AFTER_S, "hung")
    tick(outcomes, asked)
    return outcomes


def open_loop(
    port: int, per_second: float, for_s: float, make: Callable[[], Question], patience_s: float
) -> tuple[Outcomes, float]:
    """Send requests at this rate, each with a time-out. Return the outcomes, and the client's largest delay."""
    outcomes = Outcomes()
    free: list[Line] = []
    again: deque[Question] = deque()
    asked, behind_s = 0, 0.0
    with contextlib.closing(Fleet(port, outcomes, free.append)) as fleet:
        fleet.retry = again.append

        def ask(question: Question) -> None:
            line: Line | None = None
            while free and (line is None or line.closed):
                line = free.pop()
            if line is None or line.closed:
                line = fleet.open()
            if line is not None:
                fleet.ask(line, question)

        began_s = looked_s = now_s = time.monotonic()
        while now_s < began_s + for_s:
            while again:
                ask(again.popleft())
            due = (now_s - began_s) * per_second
            behind_s = max(behind_s, (due - asked) / per_second)
            while asked < due:
                asked += 1
                ask(make())
            fleet.turn(OPEN_LOOP_STEP_S)
            now_s = time.monotonic()
            if now_s - looked_s > LOOK_S:
                looked_s = now_s
                fleet.expire(now_s - patience_s, "gave up")
        fleet.gather(patience_s, "gave up")
    return outcomes, behind_s
