"""The contract between the worker and the application that it serves, and the adapter for plain WSGI applications.

The worker knows no model, no protocol and no framework. It calls `admit` once for each request, before the request is
queued, and reads the attributes of the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
WSGIApplication = Callable[[Environ, Any], Iterable[bytes]]

RENAMED = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}
"""Statuses whose names in the standard library are older than those in RFC 9110."""
STATUS_LINES = {status.value: f"{status.value} {RENAMED.get(status, status.phrase)}" for status in HTTPStatus}


def status_line(status: int) -> str:
    """Return a status with its name, as WSGI requires."""
    return STATUS_LINES.get(status) or f"{status} Unknown"


@dataclass(slots=True)
class Response:
    """A response. `body` is whole, or an iterator of its parts, which is closed at its end if it has `close`.

    Interceptors may change it until it is sent. The server sets `Content-Length`.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | Iterator[bytes] = b""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal by the worker itself, which the application formats.

    `name` is the last part of a problem's type (`queue-full`), `detail` one sentence for the client.
    """

    status: int
    name: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)


class ServedRequest(Protocol):
    """One request as the application sees it. The worker reads how to run it, and writes its times."""

    environ: Environ
    runs_inline: bool
    """Whether the request takes microseconds and never blocks. It then runs on the loop's thread as far as the budgets
    of the loop and of its client allow, otherwise in a thread."""
    inline_us: float
    """Estimated microseconds on the loop if it runs inline."""
    batch_key: Hashable
    """Waiting requests with the same key, other than None, share one call of `respond`."""
    may_block: bool
    """Whether the request may wait for other processes. It then gets a thread of its own, and takes no place from
    requests that compute."""
    is_stream: bool
    """Whether the answer is computed in parts. The request may wait for its client, like one that may block, but takes
    a place among the requests that compute for each part."""
    through_wsgi: bool
    """Whether the worker calls the application (PEP 3333) to run the request. Otherwise it calls `respond`."""
    deadline_s: float
    """Deadline (monotonic). The worker sets it before the request runs."""
    queued_s: float
    """Time that the request waited for its thread. The worker sets it before the request runs."""

    @property
    def progressed_s(self) -> float:
        """Time of the last progress (monotonic)."""

    @property
    def is_awaited(self) -> bool:
        """Whether the request waits only by `await`. Then `respond_async` answers it, without a thread of its own."""

    @property
    def client(self) -> Hashable:
        """The client of the request for fairness."""


class ServingApp(Protocol):
    """The application that the worker serves. `admit`, `client_of`, `refuse_by_head`, `refuse`, `started`, `observe`
    and `draining` are called on the loop's thread: they run no user code and never block.

    A subclass may leave out the methods that have a body here."""

    def admit(self, environ: Environ) -> ServedRequest:
        """Set how a request is run, without running it. Its body is whole, in `wsgi.input`."""

    def client_of(self, environ: Environ) -> Hashable:
        """Return the client of a request whose head was read: the same value as `ServedRequest.client` later.

        Only reads `environ`.
        """

    def refuse_by_head(self, environ: Environ) -> Response | None:
        """Refuse a request whose head was read and whose body was not; return None to read its body.

        Only reads `environ`. A request that passes is admitted later, when its body is whole.
        """
        return None

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response] | None:
        """Answer one request, or several of one batch key: one response for each, in order.

        The body of an inline request's response is always whole. None means that all of them must go through WSGI, in a
        thread.
        """
        return None

    async def respond_async(self, request: Any) -> Response | None:
        """Answer one request that `is_awaited` on the event loop of the application. Its body is whole.

        None means that it must run in a thread. It is cancelled if its client leaves.
        """
        return None

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call a function on the thread of the application's event loop."""
        return

    def __call__(self, environ: Environ, start_response: Any, /) -> Iterable[bytes]:
        """Answer a request that goes `through_wsgi` (PEP 3333)."""

    def refuse(self, environ: Environ, request: ServedRequest | None, refusal: Refusal) -> Response:
        """Format a refusal of the worker.

        `request` is None if the request was refused before it was admitted. `environ` then may hold only
        `REQUEST_METHOD`, `PATH_INFO` and the header fields that were read.
        """

    def started(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        """Receive the function that returns the worker's statistics, once in each worker."""
        return

    def observe(self) -> None:
        """Publish those statistics. Called every second, and at the end."""
        return

    def draining(self) -> None:
        """Report from now on that this worker is not ready, because it stops."""
        return


@dataclass
class Stats:
    """Counters of one worker since its start. The application reads them through the function that `started` receives.

    Only the loop's thread writes. Any thread may read, and sees each number at that moment.
    """

    accepted: int = 0
    evicted: int = 0
    inline: int = 0
    threaded: int = 0
    awaited: int = 0
    answered: int = 0
    left: int = 0
    """Clients that left before their answer (nginx logs these as 499)."""
    dropped: int = 0
    """Requests that never ran, because their clients left while they were queued."""
    late: int = 0
    """Requests whose answer came after their 504."""
    refused: dict[str, int] = field(default_factory=dict)
    """By reason: `head_timeout`, `body_too_large`, `queue_full`, `queue_wait`, `deadline`, `malformed`, ..."""
    turn_max_s: float = 0.0
    """Longest time that the loop was away from its poller, in the last ten seconds."""

    running: Callable[[], int] = lambda: 0
    queued: Callable[[], int] = lambda: 0
    queue_age: Callable[[float], float] = lambda now_s: 0.0
    connections_by_state: Callable[[], dict[str, int]] = dict

    def refuse(self, reason: str) -> None:
        """Count one refusal."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def snapshot(self) -> dict[str, Any]:
        """Return all counters as plain values."""
        counters = {name: value for name, value in vars(self).items() if not callable(value)}
        return counters | {
            "connections": self.connections_by_state(),
            "refused": dict(self.refused),
            "running": self.running(),
            "queued": self.queued(),
            "queue_age_s": self.queue_age(time.monotonic()),
        }


@dataclass(slots=True)
class PlainRequest:
    """A request of a plain WSGI application. It runs alone in a thread, through WSGI."""

    environ: Environ
    client: Hashable
    runs_inline: bool = False
    batch_key: Hashable = None
    may_block: bool = False
    through_wsgi: bool = True
    is_stream: bool = False
    inline_us: float = 20.0
    deadline_s: float = float("inf")
    queued_s: float = 0.0
    progressed_s: float = float("-inf")
    is_awaited: bool = False


class PlainApp(ServingApp):
    """Any WSGI application as a `ServingApp`."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def admit(self, environ: Environ) -> PlainRequest:
        """Make a request that runs in a thread."""
        return PlainRequest(environ, self.client_of(environ))

    def client_of(self, environ: Environ) -> Hashable:
        """Return the address of the connection."""
        return str(environ.get("REMOTE_ADDR", ""))

    def __call__(self, environ: Environ, start_response: Any, /) -> Iterable[bytes]:
        """Call the application."""
        return self._application(environ, start_response)

    def refuse(self, environ: Environ, request: ServedRequest | None, refusal: Refusal) -> Response:
        """Format a refusal as one line of text."""
        headers = [("Content-Type", "text/plain; charset=utf-8"), *refusal.headers.items()]
        return Response(refusal.status, headers, f"{refusal.detail}\n".encode())
