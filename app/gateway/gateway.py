"""The path of every request: admitted, run between the interceptors, answered; by Flask or without it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from app.gateway.context import KEY, RequestContext, Route, Router
from app.gateway.errors import ErrorRenderer, title_of
from app.gateway.forwarded import Forwarding
from app.gateway.interceptors import Interceptor, InterceptorChain
from app.server.contract import Environ, Headers, Refusal, Response, WSGIApplication
from app.telemetry import RequestScope, current_request
from app.telemetry.metrics import SharedMetrics

log = logging.getLogger(__name__)

NO_CONTENT = 204
Snapshot = Callable[[], dict[str, Any]]


class Gateway:
    """Serves one application: the `ServingApp` of Retort's worker, and the way in for every other WSGI server.

    Lives as long as the process; safe to call from many threads.
    """

    def __init__(
        self,
        router: Router,
        interceptors: Sequence[Interceptor],
        errors: ErrorRenderer,
        forwarding: Forwarding,
        metrics: SharedMetrics,
        on_draining: Callable[[], None],
    ) -> None:
        self._router = router
        self._chain = InterceptorChain(interceptors)
        self._errors = errors
        self._forwarding = forwarding
        self._metrics = metrics
        self.draining = on_draining
        self._application: WSGIApplication | None = None
        self._wrapped_by = ""
        self._is_direct = True
        """As it was when it was last looked at: at every answer without Flask, and every second."""

    def serve(self, application: WSGIApplication, wrapped_by: str = "") -> Gateway:
        """Serve `application`, in which `wrapped_by` names what is around the Flask application; empty for nothing."""
        self._application = application
        self._wrapped_by = wrapped_by
        return self

    # --- what the worker calls (server/contract.py)

    def started(self, snapshot: Snapshot) -> None:
        """Keep where the worker's own numbers are found; say once how requests are run."""
        self._metrics.server_snapshot = snapshot
        self._look()

    def observe(self) -> None:
        """Publish the worker's own numbers, and look again how requests are run."""
        self._look()
        self._metrics.refresh_server()

    def admit(self, environ: Environ) -> RequestContext:
        """Make the context of a request, match its route, and decide how it is run. Runs no code of users."""
        self._forwarding.apply(environ)
        context = RequestContext(environ)
        match = self._router.match(environ)
        context.is_own_view, context.may_block = match.is_own, match.may_block
        route = match.route
        if route is None:
            environ[KEY] = context
            return context
        context.route, context.arguments = route, match.arguments or {}
        route.plan(context)
        context.through_wsgi = not (match.is_direct and (self._is_direct or self._look()))
        if context.through_wsgi:
            environ[KEY] = context
            context.runs_inline, context.batch_key = False, None
        elif self._chain.may_block:
            context.runs_inline = False
        return context

    def respond(self, requests: Sequence[Any]) -> list[Response] | None:
        """Answer requests of one route that need no Flask, each between its interceptors; None where they do now."""
        contexts: Sequence[RequestContext] = requests
        if not self._look():
            for context in contexts:
                context.through_wsgi, context.environ[KEY] = True, context
            return None
        scope = contexts[0] if len(contexts) == 1 else RequestScope(",".join([each.id for each in contexts]))
        token = current_request.set(scope)
        try:
            early = (
                [self._before(context) for context in contexts] if self._chain.has_before else [None] * len(contexts)
            )
            passed = [context for context, response in zip(contexts, early, strict=True) if response is None]
            route = contexts[0].route
            if route is None:
                raise AssertionError("a request without a route goes through WSGI")
            made = iter(route.respond(passed) if passed else ())
            responses = [response or next(made) for response in early]
            for context, response in zip(contexts, responses, strict=True):
                self._chain.after(context, response)
                if not isinstance(response.body, bytes):
                    response.body = _Parts(response.body, context, self._chain)
            self._chain.flush()
            return responses
        finally:
            current_request.reset(token)

    def refuse(self, environ: Environ, request: Any, refusal: Refusal) -> Response:
        """Word a refusal of the worker's own, with the header fields of every answer."""
        context = request if isinstance(request, RequestContext) else RequestContext(environ)
        response = self._errors.refusal(context, refusal)
        self._chain.after(context, response, on_loop=True)
        self._chain.flush()
        return response

    def __call__(self, environ: Environ, start_response: Any, /) -> Iterable[bytes]:
        """Answer a request through WSGI (PEP 3333)."""
        if self._application is None:
            raise AssertionError("no server was told to serve this application")
        return self.run(environ, start_response, self._application)

    # --- through WSGI, under any server

    def run(self, environ: Environ, start_response: Any, application: WSGIApplication) -> Iterable[bytes]:
        """Answer one request between its interceptors; `application` is called where it needs Flask."""
        context: RequestContext = environ.get(KEY) or self.admit(environ)
        context.is_running = True
        if not context.through_wsgi and (responses := self.respond([context])) is not None:
            return _send(context, responses[0], start_response)
        token = current_request.set(context)
        try:
            response = self._before(context)
            if response is None:
                return self._through(context, start_response, application)
            self._chain.after(context, response)
            self._chain.flush()
            return _send(context, response, start_response)
        finally:
            current_request.reset(token)

    def _through(self, context: RequestContext, start_response: Any, application: WSGIApplication) -> Iterable[bytes]:
        def begin(status: str, headers: Headers, exc_info: Any = None) -> Any:
            response = Response(int(status[:3]), list(headers), iter(()))  # its body comes later, from the application
            self._chain.after(context, response)
            line = status if status.startswith(str(response.status)) else status_line(response.status)
            return (
                start_response(line, response.headers, exc_info) if exc_info else start_response(line, response.headers)
            )

        parts = application(context.environ, begin)
        if isinstance(parts, list | tuple):
            _end(context, self._chain)
            return parts
        return _Parts(parts, context, self._chain)

    # --- both

    def _before(self, context: RequestContext) -> Response | None:
        try:
            return self._chain.before(context)
        except Exception as error:  # noqa: BLE001 - an interceptor refuses, or fails: then nothing is let past it
            return self._errors.response(context, error)

    def _look(self) -> bool:
        """Look whether routes may be answered without Flask; the log has a line when that changes."""
        is_direct = not self._wrapped_by and self._router.is_direct()
        if is_direct is not self._is_direct:
            self._is_direct = is_direct
            if is_direct:
                log.info("predictions are answered without Flask around them")
            else:
                found = self._wrapped_by or self._router.explain()
                log.info("predictions go through Flask, at several times their CPU time, for the sake of: %s", found)
        return is_direct


class _Parts:
    """The body of an answer that is made part by part, under the request that it belongs to."""

    def __init__(self, parts: Iterable[bytes], context: RequestContext, chain: InterceptorChain) -> None:
        self._parts = parts
        self._chain = chain
        self._iterator = iter(parts)
        self._context = context

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = current_request.set(self._context)
        try:
            return next(self._iterator)
        finally:
            current_request.reset(token)

    def close(self) -> None:
        token = current_request.set(self._context)
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()
        finally:
            _end(self._context, self._chain)
            current_request.reset(token)


def _route_of(contexts: Sequence[RequestContext]) -> Route:
    """The route that several requests have in common."""
    route = contexts[0].route
    if route is None:
        raise AssertionError("a request without a route goes through WSGI")
    return route


def _end(context: RequestContext, chain: InterceptorChain) -> None:
    """End a request, and open the circle of its context and its environ, which only the garbage collector would."""
    context.end()
    chain.flush()
    context.environ.pop(KEY, None)


def status_line(status: int) -> str:
    """Return a status with its name, as WSGI wants it."""
    return f"{status} {title_of(status)}"


def _send(context: RequestContext, response: Response, start_response: Any) -> Iterable[bytes]:
    """Hand a response to a WSGI server."""
    line, headers, body = status_line(response.status), response.headers, response.body
    if not isinstance(body, bytes):
        start_response(line, headers)
        return body
    start_response(line, headers if response.status == NO_CONTENT else [*headers, ("Content-Length", str(len(body)))])
    return [b"" if context.environ["REQUEST_METHOD"] == "HEAD" else body]
