"""Requests that are coroutines of the application's event loop: they wait without a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

from app.server import answers
from app.server.bodies import close_body
from app.server.connection import PendingRequest
from app.server.contract import ServingApp

log = logging.getLogger(__name__)

Put = Callable[[PendingRequest, bytes | None, bool], None]
"""Gives the loop a part of an answer: request, part, whether it is the last."""


class Coroutines:
    """Runs each request as a coroutine. `submit` belongs to the loop's thread; all else happens on the event loop.

    The requests of one turn of the loop cost one call of the event loop, however many they are.
    """

    def __init__(self, app: ServingApp, put: Put) -> None:
        self._app = app
        self._put = put
        self._submitted: deque[PendingRequest] = deque()
        self._is_called = False

    def submit(self, pending: PendingRequest) -> None:
        """Start a request."""
        pending.stop = partial(self._stop, pending)
        self._submitted.append(pending)
        if not self._is_called:
            self._is_called = True
            self._app.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_called = False
        while self._submitted:
            pending = self._submitted.popleft()
            pending.thread_id = threading.get_ident()
            pending.task = asyncio.create_task(self._answer(pending))

    def _stop(self, pending: PendingRequest) -> None:
        """Cancel the coroutine, because nobody will read its answer."""

        def cancel() -> None:
            if pending.task is not None:
                pending.task.cancel()

        self._app.call_soon(cancel)

    async def _answer(self, pending: PendingRequest) -> None:
        part: bytes | None = None
        try:
            if pending.cancelled:
                part = b""
                return
            response = await self._app.respond_soon(pending.request)
            if response is None:
                pending.needs_thread = True
            else:
                part = answers.whole_body(pending.answer, response)
        except BaseException:
            if not pending.cancelled:
                log.exception("error in %s %r", pending.environ["REQUEST_METHOD"], pending.environ["RAW_URI"])
        finally:
            if not pending.needs_thread:
                close_body(pending.environ)
            pending.stop = pending.task = None
            self._put(pending, part, True)
