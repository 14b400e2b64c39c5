"""Interceptors: code that runs before and after every request, and the chain that runs it."""

from __future__ import annotations

import inspect
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence

from app.gateway.context import RequestContext
from app.server.contract import Headers, Response

log = logging.getLogger(__name__)

After = Callable[[RequestContext, Response], None]

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""The name and the value of a header field (RFC 9110, section 5)."""
MOST_WAITING = 10_000
"""Limit of the server's refusals that wait for interceptors that block."""


class Interceptor:
    """Base class of all interceptors. Lives as long as the process; called from many threads.

    Set `may_block` to False if the interceptor never waits for a database, a lock or a file. While an interceptor may
    block, no request runs on the server's event loop.
    """

    may_block = True
    looks_at_view = False
    """Whether `before` depends on the view. It then runs again if a middleware sends the request to another view."""
    refuses_by_head = False
    """Whether `before` does nothing but refuse, reads only the head and never waits. It then also runs before a long
    body is read, so that the server does not read the body of a refused request."""

    def start(self) -> None:
        """Start threads and open connections. Called in each worker, after the fork and before the first request."""

    def close(self) -> None:
        """End the threads and connections of `start` within a second. Called in a worker after its last request."""

    def before(self, context: RequestContext) -> Response | None:
        """Inspect a request before anything else runs.

        Returns:
            None to let the request pass, or the response to send instead.

        Raises:
            RequestRefused: the request is refused, in the error format of its protocol.
        """
        return None

    def after(self, context: RequestContext, response: Response) -> None:
        """Inspect the response to any request, refused ones included, and change its status or header fields.

        The server's own refusals (a full queue, a deadline, a long body) come without `before`. An interceptor that may
        block sees them after they were sent, and cannot change them.
        """

    def flush(self) -> None:
        """Write the output that `after` has buffered. Called once for all requests that shared a run."""


class InterceptorChain:
    """The interceptors of an application: called in order before a request, and in reverse order after it."""

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        for interceptor in interceptors:
            _check(interceptor)
        before, after = _overriding(interceptors, "before"), _overriding([*reversed(interceptors)], "after")
        self._before = [each.before for each in before]
        self._before_again = [each.before for each in before if each.looks_at_view]
        self.before_body = [each.before for each in before if each.refuses_by_head and not each.may_block]
        """The methods that refuse a request by its head."""
        self._after = [each.after for each in after]
        self._after_on_loop = [each.after for each in after if not each.may_block]
        self._after_later = [each.after for each in after if each.may_block]
        self._flush = [each.flush for each in _overriding(interceptors, "flush")]
        self.may_block = any(each.may_block for each in interceptors)
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_calling = False
        self._lock = threading.Lock()
        self._interceptors = interceptors

    def start(self) -> None:
        """Start each interceptor."""
        for interceptor in self._interceptors:
            interceptor.start()

    def close(self) -> None:
        """Close each interceptor, in reverse order, even if another one fails."""
        for interceptor in reversed(self._interceptors):
            try:
                interceptor.close()
            except Exception:
                log.exception("the interceptor %s failed at the end of the worker", interceptor)

    def before(self, context: RequestContext, again: bool = False) -> Response | None:
        """Return the response of the first interceptor that answers the request; None if all let it pass.

        Args:
            again: call only the interceptors that depend on the view.

        Raises:
            Exception: an interceptor refused the request or failed.
        """
        for before in self._before_again if again else self._before:
            response = before(context)
            if response is not None:
                if not isinstance(response, Response):
                    raise TypeError(f"{before} returned {type(response).__name__}; allowed: Response or None")
                return response
        return None

    def after(self, context: RequestContext, response: Response, on_loop: bool = False) -> None:
        """Pass the first response to a request to every interceptor. A second one only gets the same header fields."""
        later: Sequence[After] = ()
        if context.claim():
            later = self._after_later if on_loop else ()
            context.status = response.status
            own_count = len(response.headers)
            _call(self._after_on_loop if on_loop else self._after, context, response)
            context.added_headers = response.headers[own_count:]
        else:
            response.headers += valid_headers(context.added_headers)
        if on_loop and self.may_block:
            self._call_later(lambda: self._end(later, context, response))
        elif isinstance(response.body, bytes):
            context.end()

    def flush(self) -> None:
        """Let interceptors write their buffered output."""
        for flush in self._flush:
            try:
                flush()
            except Exception:
                log.exception("the interceptor %s failed after a request", flush)

    def _end(self, afters: Sequence[After], context: RequestContext, response: Response) -> None:
        _call(afters, context, response)
        context.end()
        self.flush()

    def _call_later(self, call: Callable[[], None]) -> None:
        """Make a call that may block in a separate thread, after the earlier calls."""
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                log.error("%d refusals wait for interceptors that may block; they do not see this one", MOST_WAITING)
                return
            self._waiting.append(call)
            if not self._is_calling:
                self._is_calling = True
                threading.Thread(target=self._call_waiting, name="retort-interceptors", daemon=True).start()

    def _call_waiting(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_calling = False
                    return
                call = self._waiting.popleft()
            call()


def _check(interceptor: Interceptor) -> None:
    """Check at the start that the chain can call every method.

    Raises:
        TypeError: this is no interceptor, or one of its methods is a coroutine function.
    """
    if not isinstance(interceptor, Interceptor):
        raise TypeError(f"{interceptor!r} is not an interceptor: pass an object of a subclass of app.Interceptor")
    for name in ("start", "close", "before", "after", "flush"):
        if inspect.iscoroutinefunction(getattr(interceptor, name)):
            raise TypeError(
                f"{name} of {type(interceptor).__name__} is a coroutine function, which nothing would await"
            )


def _overriding(interceptors: Sequence[Interceptor], method: str) -> list[Interceptor]:
    """Return the interceptors with a method of their own."""
    base = getattr(Interceptor, method)
    return [each for each in interceptors if getattr(getattr(each, method), "__func__", None) is not base]


def valid_headers(headers: Sequence[tuple[str, str]]) -> Headers:
    """Return only the valid header fields: a refusal must not fail on a field that an interceptor has added."""
    return [(name, value) for name, value in headers if _matches(name, NAME) and _matches(value, VALUE)]


def _matches(text: object, form: re.Pattern[str]) -> bool:
    return isinstance(text, str) and form.fullmatch(text) is not None


def _call(afters: Sequence[After], context: RequestContext, response: Response) -> None:
    for after in afters:
        try:
            after(context, response)
        except Exception:
            log.exception("the interceptor %s failed after a request", after)
        context.status = response.status
