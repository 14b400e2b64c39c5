"""The bound of everything that the loop does in one turn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TypeVar

DRAIN_S = 0.005
"""How long each kind of work may take in one turn, beyond its last piece."""

WorkT = TypeVar("WorkT")


def drain(waiting: deque[WorkT], at_most: int = 2**31) -> Iterator[WorkT]:
    """Take out and yield what waits now, in its order, for `DRAIN_S` at most; the rest stays for the next turn.

    Pieces that are added meanwhile also stay, so that work that makes work cannot keep the loop.
    """
    until_s = time.monotonic() + DRAIN_S
    for _ in range(min(len(waiting), at_most)):
        yield waiting.popleft()
        if time.monotonic() >= until_s:
            return
