"""The path of every request: admit it, run it between the interceptors, answer it, with or without Flask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, TypeVarTuple

from app.core.steps.event_loop import EventLoop
from app.gateway.context import RequestContext, Route, Router, context_in
from app.gateway.credentials import Principal
from app.gateway.errors import ErrorRenderer, RequestRefused
from app.gateway.forwarded import Forwarding
from app.gateway.interceptors import Interceptor, InterceptorChain, valid_headers
from app.gateway.wsgi import BodyInParts, keep_body, send
from app.server.contract import Environ, Headers, Refusal, Response, WSGIApplication, status_line
from app.telemetry import current_request, scope_of
from app.telemetry.metrics import SharedMetrics

log = logging.getLogger(__name__)

CLIENT_GONE = 499
Snapshot = Callable[[], dict[str, Any]]
ResultT = TypeVar("ResultT")
ArgumentTs = TypeVarTuple("ArgumentTs")


class Gateway:
    """The gateway of one application: the `ServingApp` of Retort's worker, and a WSGI application for other servers.

    Lives as long as the process; safe to call from many threads. `caller` returns the holder of a request's API key,
    without waiting.
    """

    def __init__(
        self,
        router: Router,
        interceptors: Sequence[Interceptor],
        errors: ErrorRenderer,
        forwarding: Forwarding,
        metrics: SharedMetrics,
        on_draining: Callable[[], None],
        event_loop: EventLoop,
        caller: Callable[[Environ], Principal | None] = lambda environ: None,
    ) -> None:
        self._router = router
        self._chain = InterceptorChain(interceptors)
        self.start, self.close = self._chain.start, self._chain.close
        self._errors = errors
        self._forwarding = forwarding
        self._metrics = metrics
        self.draining = on_draining
        self._event_loop = event_loop
        self._caller = caller
        self.call_soon = event_loop.call_soon
        self._application: WSGIApplication | None = None
        self._wrapped_by = ""
        self._is_direct = True
        """The result of the last `_check_direct`. Every response without Flask repeats it, and so does every second."""
        self._is_direct_now: bool | None = None
        """The result of `_check_direct` in this turn of the event loop; None before that check."""

    def serve(self, application: WSGIApplication, wrapped_by: str = "") -> Gateway:
        """Serve `application`. `wrapped_by` names the wrappers around the Flask application, if any."""
        self._application = application
        self._wrapped_by = wrapped_by
        return self

    # --- called by the worker (server/contract.py)

    def started(self, snapshot: Snapshot) -> None:
        """Keep the function that reads the worker's statistics; check whether requests must go through Flask."""
        self._metrics.server_snapshot = snapshot
        self._router.check_at_once()
        self._check_direct()

    def observe(self) -> None:
        """Publish the worker's statistics, and check again whether requests must go through Flask."""
        self._check_direct()
        self._metrics.refresh_server()

    def admit(self, environ: Environ) -> RequestContext:
        """Make the context of a request, match its route, and decide how it runs. Runs no user code."""
        self._forwarding.apply(environ)
        context = RequestContext(environ)
        context.gateway = self
        if (principal := self._caller(environ)) is not None:
            context.principal, context.client = principal, principal.id
        is_direct = self._match(context)
        route = context.route
        if route is None:
            context.mark()
            return context
        route.plan(context)
        context.through_wsgi = not (is_direct and (self._is_direct or self._check_direct()))
        if context.through_wsgi:
            context.mark()
            context.runs_inline, context.batch_key = False, None
        elif self._chain.may_block:
            context.runs_inline = False
        return context

    def client_of(self, environ: Environ) -> str:
        """Return the client of a request that is not admitted yet, the same as its context will have."""
        principal = self._caller(environ)
        return self._forwarding.client(environ) if principal is None else principal.id

    def refuse_by_head(self, environ: Environ) -> Response | None:
        """Refuse a request that an interceptor refuses by its head; return None to read its body."""
        if not self._chain.before_body:
            return None
        environ = environ.copy()  # `admit` needs the original if the request passes
        self._forwarding.apply(environ)
        context = RequestContext(environ)
        self._match(context)
        try:
            for before in self._chain.before_body:
                before(context)
            return None
        except Exception as error:  # noqa: BLE001 - an interceptor refuses, or fails: no request passes then
            response = self._errors.response(context, error)
        return self._pass_refusal(context, response)

    def respond(self, requests: Sequence[Any]) -> list[Response] | None:
        """Answer requests of one route between their interceptors; return None if they must go through Flask now."""
        contexts: Sequence[RequestContext] = requests
        if not (self._check_direct() and all(self._is_still_direct(context) for context in contexts)):
            for context in contexts:
                context.through_wsgi = True
                context.mark()
            return None
        token = current_request.set(scope_of(contexts))
        try:
            early = [self._before(context) for context in contexts]  # None for a request that passes
            passed = [context for context, response in zip(contexts, early, strict=True) if response is None]
            route = contexts[0].route
            if route is None:
                raise AssertionError("a request without a route goes through WSGI")
            predictions = iter(self._respond(route, passed) if passed else ())
            responses = [response or next(predictions) for response in early]
            for context, response in zip(contexts, responses, strict=True):
                self._after(context, response)
                context.error = None  # the error's traceback refers to the context: a cycle
            self._chain.flush()
            return responses
        finally:
            current_request.reset(token)

    async def respond_async(self, request: Any) -> Response | None:
        """Answer a request on the event loop between its interceptors; return None if it needs Flask now."""
        context: RequestContext = request
        if not (self._is_direct_in_turn() and self._is_still_direct(context)) or context.awaited is None:
            context.through_wsgi = True
            context.mark()
            return None
        current_request.set(context)  # only for this coroutine
        try:
            response = await self._intercept(self._before, context)
            if response is None:
                response = await context.awaited.respond_async(context)
        except asyncio.CancelledError:
            # Interceptors whose `before` ran get their `after` too, with the status that nginx logs in this case.
            await self._intercept(self._finish, context, Response(CLIENT_GONE))
            raise
        except Exception as error:  # noqa: BLE001 - a route renders expected errors
            response = self._errors.response(context, error)
        await self._intercept(self._finish, context, response)
        context.error = None  # the error's traceback refers to the context: a cycle
        return response

    async def _intercept(self, function: Callable[[*ArgumentTs], ResultT], *arguments: *ArgumentTs) -> ResultT:
        """Call interceptors from a coroutine, in a thread if some may block."""
        if self._chain.may_block:
            return await self._event_loop.block(function, *arguments)
        return function(*arguments)

    def _finish(self, context: RequestContext, response: Response) -> None:
        self._after(context, response)
        self._chain.flush()

    def refuse(self, environ: Environ, request: Any, refusal: Refusal) -> Response:
        """Format a refusal of the worker, with the header fields of every response."""
        context = request if isinstance(request, RequestContext) else RequestContext(environ)
        error = RequestRefused(refusal.status, refusal.name, refusal.detail, refusal.headers)
        return self._pass_refusal(context, self._errors.response(context, error))

    def _pass_refusal(self, context: RequestContext, response: Response) -> Response:
        """Pass a refusal to the interceptors, on the loop's thread."""
        self._chain.after(context, response, on_loop=True)
        response.headers = valid_headers(response.headers)
        self._chain.flush()
        return response

    def __call__(self, environ: Environ, start_response: Any, /) -> Iterable[bytes]:
        """Answer a request through WSGI (PEP 3333)."""
        if self._application is None:
            raise AssertionError("no server was told to serve this application")
        return self.run(environ, start_response, self._application)

    # --- through WSGI, under any server

    def around(self, environ: Environ, start_response: Any, inner: WSGIApplication) -> Iterable[bytes]:
        """Call `inner`, a part of the application. Run the interceptors around it unless they run already."""
        context = context_in(environ)
        if context is None or context.gateway is not self or not context.is_running:
            return self.run(environ, start_response, inner)
        context.environ = environ  # a middleware may have replaced it by a copy with another body or header fields
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) != context.matched:  # a middleware has moved the request
            self._match(context)
            if context.route is not None:
                context.route.plan(context)
            response = self._before(context, again=True)
            if response is not None:
                return send(context, response, start_response)
        self._keep_body(context)
        return inner(environ, start_response)

    def run(self, environ: Environ, start_response: Any, application: WSGIApplication) -> Iterable[bytes]:
        """Answer one request between its interceptors. Call `application` if the request needs Flask."""
        context = context_in(environ)
        if context is None or context.gateway is not self or context.is_running:
            context = self.admit(environ)
        context.is_running = True
        if not context.through_wsgi and (responses := self.respond([context])) is not None:
            return send(context, responses[0], start_response)
        token = current_request.set(context)
        try:
            response = self._before(context)
            if response is None:
                return self._through_wsgi(context, start_response, application)
            self._finish(context, response)
            return send(context, response, start_response)
        finally:
            current_request.reset(token)

    def _through_wsgi(
        self, context: RequestContext, start_response: Any, application: WSGIApplication
    ) -> Iterable[bytes]:
        def begin(status: str, headers: Headers, exc_info: Any = None) -> Any:
            response = Response(int(status[:3]), list(headers), iter(()))  # its body comes later, from the application
            self._chain.after(context, response)
            line = status if status.startswith(str(response.status)) else status_line(response.status)
            if not exc_info:
                return start_response(line, response.headers)
            write = start_response(line, response.headers, exc_info)  # raises exc_info if the first status was sent
            context.status = response.status
            return write

        self._keep_body(context)
        try:
            parts = application(context.environ, begin)
        except BaseException:
            self._end(context)
            raise
        self._check_again()  # before the client has its response, and sends the next request
        if isinstance(parts, list | tuple):
            context.sent_bytes = sum(map(len, parts))
            self._end(context)
            return parts
        return BodyInParts(parts, context, self._end)

    def _keep_body(self, context: RequestContext) -> None:
        """Let user code read the body before a view of Retort reads it. Other views get the body unchanged."""
        if context.route is not None or context.may_change_models:
            keep_body(context.environ)

    def _end(self, context: RequestContext) -> None:
        """End a request. If it failed before its response began, pass a 500 to the interceptors."""
        if not context.status:
            context.outcome = "internal-error"
            self._chain.after(context, Response(500))
        context.end()
        self._chain.flush()
        context.release()
        self._check_again()

    def _check_again(self) -> None:
        """Make the next prediction check everything again, because a view may have patched something."""
        if self._is_direct:  # otherwise `_check_direct` does this before it changes to True
            self._router.check_at_once()

    def dispatching(self, context: RequestContext, endpoint: str, arguments: Mapping[str, Any]) -> Response | None:
        """Check the rights again if Flask has matched another view than the router, by a host or a converter.

        Returns:
            None to let the request pass, or the response of an interceptor.

        Raises:
            Exception: an interceptor refused the request.
        """
        access = self._router.access(endpoint, context.environ["REQUEST_METHOD"], arguments)
        if (access.needed_scope, access.asked_model) == (context.needed_scope, context.asked_model):
            return None
        context.needed_scope, context.asked_model = access.needed_scope, access.asked_model
        return self._chain.before(context, again=True)

    # --- shared

    def _match(self, context: RequestContext) -> bool:
        """Match a request to its view, and return whether its route may answer without the view."""
        environ = context.environ
        match = self._router.match(environ)
        context.matched, context.pattern = (environ["REQUEST_METHOD"], environ["PATH_INFO"]), match.pattern
        context.may_change_models, context.may_block = match.may_change_models, match.may_block
        context.is_limited = match.is_limited
        context.needed_scope, context.asked_model = match.access.needed_scope, match.access.asked_model
        if match.route is not None:
            context.route, context.arguments = match.route, match.arguments or {}
        return match.is_direct

    def _is_still_direct(self, context: RequestContext) -> bool:
        """Return whether the request still matches the route of its admission: views may change while it waits."""
        match = self._router.match(context.environ)
        return match.is_direct and match.route is context.route

    def _respond(self, route: Route, contexts: Sequence[RequestContext]) -> Sequence[Response]:
        try:
            return route.respond(contexts)
        except Exception as error:  # noqa: BLE001 - a route renders expected errors
            return [self._errors.response(context, error) for context in contexts]

    def _before(self, context: RequestContext, again: bool = False) -> Response | None:
        try:
            response = self._chain.before(context, again)
            if response is not None and context.runs_inline and not isinstance(response.body, bytes):
                response.body = b"".join(response.body)  # the server's event loop sends no bodies in parts
            return response
        except Exception as error:  # noqa: BLE001 - an interceptor refuses, or fails: no request passes then
            return self._errors.response(context, error)

    def _after(self, context: RequestContext, response: Response) -> None:
        self._chain.after(context, response)
        if not isinstance(response.body, bytes):
            response.body = BodyInParts(response.body, context, self._end)

    def _is_direct_in_turn(self) -> bool:
        """Like `_check_direct`, but check once for all requests of one turn of the event loop."""
        if self._is_direct_now is None:
            asyncio.get_running_loop().call_soon(self._end_turn)
            self._is_direct_now = self._check_direct()
        return self._is_direct_now

    def _end_turn(self) -> None:
        self._is_direct_now = None

    def _check_direct(self) -> bool:
        """Check whether routes may be answered without Flask, and log a change."""
        is_direct = not self._wrapped_by and self._router.is_direct()
        if is_direct and not self._is_direct:  # the user code that was in the way may have patched something
            self._router.check_at_once()
            is_direct = self._router.is_direct()
        if is_direct is not self._is_direct:
            self._is_direct = is_direct
            if is_direct:
                log.info("predictions are answered without Flask around them")
            else:
                cause = self._wrapped_by or self._router.explain()
                log.info("predictions go through Flask, at several times their CPU time, because of: %s", cause)
        return is_direct
