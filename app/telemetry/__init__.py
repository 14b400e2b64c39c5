"""Request ids and phase timings, without Flask and without models."""

from __future__ import annotations

import math
import os
import random
import re
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from app.errors import DeadlineExceeded

_ids = random.Random()  # noqa: S311 - unique, not secret; apart from the generator that a model may seed
os.register_at_fork(after_in_child=_ids.seed)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
PHASES = ("parse", "validate", "queue", "run", "encode")
ALL_PHASES = ("parse", "validate", "queue", "prepare", "run", "finish", "encode")
"""Also the phases of models with steps."""
SERVER_TIMING = ", ".join(f"{phase};dur=%.3f" for phase in PHASES)
SERVER_TIMING_OF_ALL = ", ".join(f"{phase};dur=%.3f" for phase in ALL_PHASES)
DURATION, NEXT_PHASE = '":', ',"'

NO_REQUEST = "-"


class RequestScope:
    """The facts of the current request that every layer may use. `deadline_s` is a monotonic time.

    `client` is the id of the API key, or else the address. Clients take turns, and each has its own limits.
    """

    address = ""
    """The address of the client."""
    permitted_models: frozenset[str] | None = None
    """The models to which the API key is limited, and which a view may use for this request; None allows all."""
    marked_s = -math.inf
    """Time of the last `mark_progress` for this request alone (monotonic)."""
    joined: RequestScope | None = None
    """The common scope of the requests that run together with this one."""
    span_identity: Any = None
    """The identity (`SpanContext`) of the request's span in a trace, while traces are on."""
    span_identities: Sequence[Any] = ()
    """The identities of the spans of all requests that run together in this scope."""

    def __init__(self, request_id: str = NO_REQUEST, client: str = "", deadline_s: float = math.inf) -> None:
        self.id = request_id
        self.client = client
        self.deadline_s = deadline_s

    @property
    def progressed_s(self) -> float:
        """The time when the work for this request last advanced (monotonic): see `mark_progress`."""
        return self.marked_s if self.joined is None else max(self.marked_s, self.joined.progressed_s)


def scope_of(scopes: Sequence[RequestScope]) -> RequestScope:
    """Return one scope for requests that run together. Its deadline is the latest of their deadlines."""
    if len(scopes) == 1:
        return scopes[0]
    joined = RequestScope(",".join([scope.id for scope in scopes]), "", max(scope.deadline_s for scope in scopes))
    for scope in scopes:
        scope.joined = joined
    if scopes[0].span_identity is not None:
        joined.span_identities = [scope.span_identity for scope in scopes]
    return joined


OUTSIDE = RequestScope()
current_request: ContextVar[RequestScope] = ContextVar("current_request", default=OUTSIDE)
"""The request that this thread or coroutine works for; `OUTSIDE` if there is none."""


def mark_progress() -> None:
    """Record that the work for the current request advances.

    After the deadline of its request, a thread that calls this is only late; otherwise the server takes it for stuck.
    """
    current_request.get().marked_s = time.monotonic()


def check_deadline() -> None:
    """Mark progress, and raise an error if the deadline of the current request has passed.

    Called between rows, images, blocks, steps and runs.

    Raises:
        DeadlineExceeded: the client no longer waits for the answer.
    """
    scope = current_request.get()
    scope.marked_s = now_s = time.monotonic()
    if now_s > scope.deadline_s:
        raise DeadlineExceeded


def request_id() -> str:
    """Return the id of the current request, or `-` outside of a request."""
    return current_request.get().id


def request_id_from(sent: str | None) -> str:
    """Return the client's request id if it is valid, else a new one of 128 random bits."""
    return sent if sent is not None and REQUEST_ID.fullmatch(sent) else f"{_ids.getrandbits(128):032x}"


def draw(share: float) -> bool:
    """Return True at random, with the probability `share`."""
    return _ids.random() < share


class Timings:
    """The duration of each phase of one request, in `ms`. `queued_s` is the wait for a thread. Not thread-safe."""

    __slots__ = ("_began_s", "_last_s", "_text", "_text_s", "ms")

    def __init__(self, queued_s: float = 0.0) -> None:
        self.ms = {"parse": 0.0, "validate": 0.0, "queue": queued_s * 1e3, "run": 0.0, "encode": 0.0}
        self._began_s = self._last_s = time.perf_counter()
        self._text, self._text_s = "", 0.0

    @property
    def total_s(self) -> float:
        """The time from the start to the end of the last phase."""
        return self._last_s - self._began_s

    def ended(self, phase: str) -> None:
        """Add the time since the last phase ended (or since the start) to this phase."""
        now_s = time.perf_counter()
        if phase not in self.ms and phase in ALL_PHASES:
            self.ms[phase] = 0.0
        self.ms[phase] += (now_s - self._last_s) * 1e3
        self._last_s = now_s

    def ns(self, phase: str) -> int:
        """Return the duration of a phase so far, in nanoseconds."""
        return int(self.ms[phase] * 1e6)

    def stages(self) -> list[tuple[str, float, float]]:
        """Return each phase that ran, except the queue, with its begin and end on the clock `time.perf_counter`."""
        stages, at_s = [], self._began_s
        for phase in ALL_PHASES:
            if phase != "queue" and (took_s := self.ms.get(phase, 0.0) / 1e3):
                stages.append((phase, at_s, at_s + took_s))
                at_s += took_s
        return stages

    def header(self) -> str:
        """Return the value of `Server-Timing` (W3C Server Timing), with durations in milliseconds."""
        if self._text_s != self._last_s:
            if len(self.ms) > len(PHASES):  # steps have phases of their own
                self._text = SERVER_TIMING_OF_ALL % tuple([self.ms.get(phase, 0.0) for phase in ALL_PHASES])
            else:
                self._text = SERVER_TIMING % (*self.ms.values(),)
            self._text_s = self._last_s
        return self._text

    def json(self) -> str:
        """Return the milliseconds of each phase as a JSON object, with the numbers of `header`."""
        return f'{{"{self.header().replace(";dur=", DURATION).replace(", ", NEXT_PHASE)}}}'
