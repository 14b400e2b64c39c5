"""The prediction endpoint: it runs one request, or several together, from the body to the response."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.core.run import PredictionStream
from app.core.service import PredictService
from app.errors import RetortError
from app.gateway.context import HttpAdapter, RequestContext
from app.gateway.errors import ErrorRenderer
from app.runtime.registry import Registry
from app.server.contract import Environ, Response
from app.signature import EXPLANATION
from app.telemetry import Timings

INLINE_BODY_BYTES = 8192
MAX_PREFERENCE_CHARS = 512
"""Limit for Accept, Accept-Encoding and the like together. Some browsers send 200 characters."""
ASKS_FOR_EXPLANATION = EXPLANATION.encode()
PLAIN_ACCEPTS = ("*/*", "application/json", "")
PLAIN_TYPES = ("application/json", "application/x-www-form-urlencoded")


class Streaming(Protocol):
    """The streaming of one protocol: answer a body block by block while the body is read."""

    def is_wanted(self, environ: Environ) -> bool:
        """Return whether a request sends a streamable body and accepts a streamed response."""

    def respond(self, context: RequestContext, stream: PredictionStream) -> Response:
        """Answer the request. The caller closes the stream when the response was sent or abandoned.

        Raises:
            RetortError: the request is refused before the response begins.
        """


@dataclass(slots=True, eq=False)
class PredictEndpoint:
    """Endpoint for the prediction URLs of one protocol. Lives as long as the process; safe to call from many threads.

    `_adapter` makes the adapter of one request. `_count` is called with each request after its run.
    """

    _service: PredictService
    _registry: Registry
    _errors: ErrorRenderer
    _adapter: Callable[[RequestContext], HttpAdapter]
    _streaming: Streaming | None
    _count: Callable[[RequestContext], None] | None

    def plan(self, context: RequestContext) -> None:
        """Set how a request runs: small JSON requests for a graph inline, requests with only async steps on the event
        loop. Requests with other steps, and streams, may block."""
        environ, model = context.environ, context.arguments.get("model")
        lease = self._registry.current(model)
        if self._streaming is not None and self._streaming.is_wanted(environ):
            context.may_block = context.is_stream = True
        elif lease is None:
            return
        elif lease.steps is not None:
            context.may_block = True
            if self._registry.is_awaited(model, context.arguments.get("version")):
                context.awaited = self
        elif lease.explains and _asks_for_explanation(environ):
            return  # an explanation takes longer than the estimate
        elif "version" not in context.arguments and (body_bytes := _small_json_bytes(environ)) is not None:
            context.runs_inline = lease.is_inline and not self._registry.may_load(model)
            context.inline_us = lease.estimate_us(body_bytes)
            if lease.gains_together:
                context.batch_key = (self, model)

    def respond(self, contexts: Sequence[RequestContext]) -> list[Response]:
        """Answer one request, or several for one model, and render each error in the format of its protocol.

        Raises:
            RetortError: a stream is refused before its response begins. A stream shares no call with other requests.
        """
        if (streaming := self._streaming_of(contexts[0])) is not None:
            return [self._open_stream(contexts[0], streaming)]
        self._run(contexts)
        return [self._render(context) for context in contexts]

    async def respond_async(self, context: RequestContext) -> Response:
        """Answer one request whose steps are all async, on the event loop."""
        if self._prepare(context):
            arguments, is_small = context.arguments, _small_json_bytes(context.environ) is not None
            await self._service.predict_async(arguments.get("model"), arguments.get("version"), context, is_small)
            self._record_end(context)
        return self._render(context)

    def answer(self, context: RequestContext) -> Response:
        """Answer one request inside Flask, whose error handlers render the exceptions.

        Raises:
            Exception: any error of the request or its model.
        """
        if (streaming := self._streaming_of(context)) is not None:
            return self._open_stream(context, streaming)
        self._run([context])
        if context.error is not None:
            raise context.error
        return self._response(context)

    def _run(self, contexts: Sequence[RequestContext]) -> None:
        """Run requests for one model, and set `content` or `error` of each."""
        ready = [context for context in contexts if self._prepare(context)]
        arguments = contexts[0].arguments
        self._service.predict(arguments.get("model"), arguments.get("version"), ready)
        for context in ready:
            self._record_end(context)

    def _prepare(self, context: RequestContext) -> bool:
        """Make the adapter of a request. If that fails, set `error` and return False."""
        context.timings = Timings(context.queued_s)
        try:
            context.adapter = self._adapter(context)
        except Exception as error:  # noqa: BLE001 - for example, no acceptable media type
            _fail(context, error)
            return False
        return True

    def _record_end(self, context: RequestContext) -> None:
        """Set the outcome of a request that was run, and count it."""
        if context.error is not None:
            _fail(context, context.error)
        if self._count is not None:
            self._count(context)

    def _render(self, context: RequestContext) -> Response:
        return self._response(context) if context.error is None else self._errors.response(context, context.error)

    def _response(self, context: RequestContext) -> Response:
        headers = [*context.adapter.headers(), ("Server-Timing", context.timings.header())]
        return Response(200, headers, context.content)

    def _streaming_of(self, context: RequestContext) -> Streaming | None:
        """Return the streaming of the protocol if the request wants it."""
        streaming = self._streaming if context.may_block else None
        return streaming if streaming is not None and streaming.is_wanted(context.environ) else None

    def _open_stream(self, context: RequestContext, streaming: Streaming) -> Response:
        context.timings = Timings(context.queued_s)
        stream = self._service.open_stream(context.arguments.get("model"), context.arguments.get("version"))
        context.model, context.version = stream.model, stream.version

        def end() -> None:
            context.rows = stream.rows
            context.timings.ended("run")
            stream.close()

        context.at_end(end)
        return streaming.respond(context, stream)


def _fail(context: RequestContext, error: Exception) -> None:
    context.error = error
    if isinstance(error, RetortError):
        context.outcome = error.code


def _asks_for_explanation(environ: Environ) -> bool:
    """Return whether a body that is whole in memory may ask for an explanation."""
    body = environ.get("wsgi.input")
    return isinstance(body, io.BytesIO) and ASKS_FOR_EXPLANATION in body.getvalue()


def _small_json_bytes(environ: Environ) -> int | None:
    """Return the length of a body if request and response are short JSON, else None: other types may take long."""
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isdigit() and len(length) < 6 and (body_bytes := int(length)) <= INLINE_BODY_BYTES):
        return None
    if "HTTP_CONTENT_ENCODING" in environ:
        return None
    content_type, accept = environ.get("CONTENT_TYPE", ""), environ.get("HTTP_ACCEPT", "*/*")
    if len(content_type) + len(accept) + len(environ.get("HTTP_ACCEPT_ENCODING", "")) > MAX_PREFERENCE_CHARS:
        return None
    is_json = (not content_type or content_type.startswith(PLAIN_TYPES)) and (
        accept in PLAIN_ACCEPTS or "json" in accept
    )
    return body_bytes if is_json else None


class FixedRoute:
    """A route that answers every request with the same short body, for probes. Safe to share."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def plan(self, context: RequestContext) -> None:
        """Run the request inline: platforms probe most when every thread is busy."""
        context.runs_inline = True

    def respond(self, contexts: Sequence[RequestContext]) -> list[Response]:
        """Return the body for each request."""
        return [Response(200, [("Content-Type", "application/json")], self._body) for _ in contexts]
