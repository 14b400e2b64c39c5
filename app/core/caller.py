"""Who asks, and until when: what a step may know of the request that it serves."""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The other side of one request. `deadline_s` is monotonic: until then an answer is of use."""

    address: str = ""
    request_id: str = ""
    deadline_s: float = math.inf


NOBODY = Caller()
caller: ContextVar[Caller] = ContextVar("caller", default=NOBODY)
