"""Interceptors: code that runs before and after every request, and the chain that runs it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence

from app.gateway.context import RequestContext
from app.server.contract import Response

log = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Refusals of the server that interceptors which block have not seen yet."""


class Interceptor:
    """The base of all interceptors. Lives as long as the process; called from many threads.

    `may_block` says that it may wait for others (a database, a lock, a file): then no request is run on the server's
    event loop. It is True unless a subclass says otherwise.
    """

    may_block = True

    def before(self, context: RequestContext) -> Response | None:
        """Look at a request before anything of it is run.

        Returns: None to let it pass, or the response that answers it.
        Raises: RequestRefused, to refuse it in the words of its protocol.
        """
        return None

    def after(self, context: RequestContext, response: Response) -> None:
        """Look at the response to every request, also one that was refused, and change its status or header fields.

        The server's own refusals (a full queue, a deadline, a body that is too long) come without `before`; where the
        interceptor may block, it sees them after they were sent, and cannot change them.
        """

    def flush(self) -> None:
        """Write what is cheaper to write together: called after one `after`, or those of requests that shared a run."""


class InterceptorChain:
    """Calls interceptors in their order before a request, and in the reverse order after it."""

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self._before = [each.before for each in interceptors if type(each).before is not Interceptor.before]
        after = [each for each in reversed(interceptors) if type(each).after is not Interceptor.after]
        self._after = [each.after for each in after]
        self._after_on_loop = [each.after for each in after if not each.may_block]
        self._after_later = [each.after for each in after if each.may_block]
        self._flush = [each.flush for each in interceptors if type(each).flush is not Interceptor.flush]
        self.has_before = bool(self._before)
        self.may_block = any(each.may_block for each in interceptors)
        self._queue: queue.Queue[Callable[[], None]] | None = None
        self._lock = threading.Lock()

    def before(self, context: RequestContext) -> Response | None:
        """Return the response of the first interceptor that answers the request; None to go on.

        Raises:
            Exception: whatever an interceptor raised, to refuse the request.
        """
        for before in self._before:
            response = before(context)
            if response is not None:
                return response
        return None

    def after(self, context: RequestContext, response: Response, on_loop: bool = False) -> None:
        """Have every interceptor see the first response to a request; a second one gets the header fields of the
        first."""
        if not context.claim():
            response.headers += context.added_headers
            return
        context.status = response.status
        own = len(response.headers)
        for after in self._after_on_loop if on_loop else self._after:
            try:
                after(context, response)
            except Exception:
                log.exception("the interceptor %s failed after a request", after)
        context.added_headers = response.headers[own:]
        if on_loop:
            for after in self._after_later:
                self._later(lambda after=after: _call(after, context, response))  # type: ignore[misc]
        if isinstance(response.body, bytes):
            context.end()

    def flush(self) -> None:
        """Have interceptors write what they kept."""
        for flush in self._flush:
            flush()

    def _later(self, call: Callable[[], None]) -> None:
        """Call what may block in a thread of its own, in order."""
        with self._lock:
            if self._queue is None:
                self._queue = queue.Queue(MOST_WAITING)
                threading.Thread(target=_run, args=(self._queue,), name="retort-interceptors", daemon=True).start()
        try:
            self._queue.put_nowait(call)
        except queue.Full:
            log.error("%d refusals wait for interceptors that block; one more is not shown to them", MOST_WAITING)


def _run(calls: queue.Queue[Callable[[], None]]) -> None:
    while True:
        calls.get()()


def _call(after: Callable[[RequestContext, Response], None], context: RequestContext, response: Response) -> None:
    try:
        after(context, response)
    except Exception:
        log.exception("the interceptor %s failed after a request", after)
