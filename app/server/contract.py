"""The contract between the worker and the application that it serves, and the adapter for plain WSGI applications.

The worker knows no model, no protocol and no framework. It calls `admit` once for each request, before the request is
queued, and reads the attributes of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
WSGIApplication = Callable[[Environ, Any], Iterable[bytes]]

RENAMED = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}
"""RFC 9110's names, where the standard library still has older ones."""
STATUS_LINES = {status.value: f"{status.value} {RENAMED.get(status, status.phrase)}" for status in HTTPStatus}


def status_line(status: int) -> str:
    """Return a status with its name, as WSGI wants it."""
    return STATUS_LINES.get(status) or f"{status} Unknown"


@dataclass(slots=True)
class Response:
    """An answer. `body` is whole, or an iterator of its parts, which is closed at its end if it has `close`.

    Interceptors may change it until it is sent. `Content-Length` is the server's affair.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | Iterator[bytes] = b""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the worker itself refuses a request: a value, which the application puts into words.

    `name` is the last part of a problem's type (`queue-full`), `detail` one sentence for the client.
    """

    status: int
    name: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)


class ServedRequest(Protocol):
    """One request as the application sees it. The worker reads how to run it, and writes when."""

    environ: Environ
    runs_inline: bool
    """It takes microseconds and waits for nothing: `respond` is called on the loop's thread, as far as the budgets of
    the loop and of its client allow, and in a thread otherwise."""
    inline_us: float
    """An estimate of how many microseconds of the loop it takes if it runs inline."""
    batch_key: Hashable
    """Requests of the same key, other than None, that wait together are one call of `respond`."""
    may_block: bool
    """It may wait for others than this process: it gets a thread of its own while it lasts, and takes no place from
    requests that compute."""
    is_stream: bool
    """Its answer is computed part by part: it may wait for its client, as one that may block, and each part takes a
    place among the requests that compute."""
    through_wsgi: bool
    """It is run by calling the application, as PEP 3333 says; all others are run by `respond`."""
    deadline_s: float
    """Monotonic; written by the worker before the request runs."""
    queued_s: float
    """How long it waited for its thread; written by the worker before the request runs."""
    progressed_s: float
    """When work for it was last seen to advance, monotonic; written by the application while the request runs."""

    @property
    def is_awaited(self) -> bool:
        """Whether it waits only by `await`: `respond_soon` answers it, without a thread of its own."""

    @property
    def client(self) -> Hashable:
        """Whose request it is, as far as fairness goes."""


class ServingApp(Protocol):
    """What the worker serves. `admit`, `client_of`, `refuse`, `started`, `observe` and `draining` are called on the
    loop's thread: they run no code of users and wait for nothing."""

    def admit(self, environ: Environ) -> ServedRequest:
        """Decide how a request is run; runs nothing of it. Its body is whole, in `wsgi.input`."""

    def client_of(self, environ: Environ) -> Hashable:
        """Name the client of a request of which only the head was read, as `ServedRequest.client` will.

        `environ` stays as it is.
        """

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response] | None:
        """Answer one request, or several of one batch key: one response for each, in their order.

        The body of one that runs inline is always whole. None: all of them have to go through WSGI after all, in a
        thread.
        """

    async def respond_soon(self, request: Any) -> Response | None:
        """Answer one request that `is_awaited`, on the event loop of the application; its body is whole.

        None: it has to run in a thread after all. It is cancelled if nobody will read its answer.
        """

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call a function on the thread of the application's event loop."""

    def __call__(self, environ: Environ, start_response: Any, /) -> Iterable[bytes]:
        """Answer a request that goes `through_wsgi` (PEP 3333)."""

    def refuse(self, environ: Environ, request: ServedRequest | None, refusal: Refusal) -> Response:
        """Word a refusal of the worker's own.

        `request` is None where it was refused before it was admitted; `environ` then may hold no more than
        `REQUEST_METHOD`, `PATH_INFO` and the header fields that were read.
        """

    def started(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        """Tell the application, once in each worker, where the worker's own numbers are found."""

    def observe(self) -> None:
        """Called every second, and at the end, for the application to publish those numbers."""

    def draining(self) -> None:
        """Tell the application that this worker stops: it should say that it is not ready."""


@dataclass(slots=True)
class PlainRequest:
    """A request of a plain WSGI application: run in a thread, alone, through WSGI."""

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


class PlainApp:
    """Any WSGI application as a `ServingApp`."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def admit(self, environ: Environ) -> PlainRequest:
        """Run every request in a thread."""
        return PlainRequest(environ, self.client_of(environ))

    def client_of(self, environ: Environ) -> Hashable:
        """Name the address that the connection comes from."""
        client: str = environ.get("REMOTE_ADDR", "")
        return client

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response] | None:
        """Never called: every request goes through WSGI."""
        raise NotImplementedError

    async def respond_soon(self, request: ServedRequest) -> Response | None:
        """Never called, as `respond`."""
        raise NotImplementedError

    def call_soon(self, call: Callable[[], None]) -> None:
        """Never called, as `respond`."""
        raise NotImplementedError

    def __call__(self, environ: Environ, start_response: Any, /) -> Iterable[bytes]:
        """Call the application."""
        return self._application(environ, start_response)

    def refuse(self, environ: Environ, request: ServedRequest | None, refusal: Refusal) -> Response:
        """Word a refusal in one line of text."""
        headers = [("Content-Type", "text/plain; charset=utf-8"), *refusal.headers.items()]
        return Response(refusal.status, headers, f"{refusal.detail}\n".encode())

    def started(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        """Nothing to tell."""

    def observe(self) -> None:
        """Nothing to tell."""

    def draining(self) -> None:
        """Nothing to tell."""
