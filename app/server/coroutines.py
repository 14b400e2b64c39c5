"""Requests that run as coroutines of the application's event loop and wait without a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial

from app.server import answers
from app.server.bodies import close_body
from app.server.contract import ServingApp
from app.server.pending import PendingRequest

log = logging.getLogger(__name__)

Put = Callable[[PendingRequest, bytes | None, bool], None]
"""Passes a part of an answer to the loop: request, part, whether it is the last."""


class Coroutines:
    """Runs each request as a coroutine. `submit` and `start` belong to the loop's thread, all else to the event loop's.

    Requests are passed on once a turn of the loop, and answers once a turn of the event loop: two threads that wake
    each other for each of them would spend much of their time waiting for the interpreter's lock.
    """

    def __init__(self, app: ServingApp, put: Put) -> None:
        self._app = app
        self._put = put
        self._submitted: list[PendingRequest] = []
        self._answered: list[tuple[PendingRequest, bytes | None]] = []

    def submit(self, pending: PendingRequest) -> None:
        """Start a request at the next `start`. If its client leaves, cancel the coroutine."""
        pending.stop = partial(self._app.call_soon, partial(_cancel, pending))
        self._submitted.append(pending)

    def start(self) -> None:
        """Start the submitted requests."""
        if self._submitted:
            submitted, self._submitted = self._submitted, []
            self._app.call_soon(partial(self._begin, submitted))

    def _begin(self, submitted: list[PendingRequest]) -> None:
        for pending in submitted:
            pending.thread_id = threading.get_ident()
            pending.task = asyncio.create_task(self._answer(pending))

    async def _answer(self, pending: PendingRequest) -> None:
        part: bytes | None = None
        try:
            if pending.cancelled:
                part = b""
                return
            response = await self._app.respond_async(pending.request)
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
            if not self._answered:
                asyncio.get_running_loop().call_soon(self._hand_back)
            self._answered.append((pending, part))

    def _hand_back(self) -> None:
        answered, self._answered = self._answered, []
        for pending, part in answered:
            self._put(pending, part, True)


def _cancel(pending: PendingRequest) -> None:
    if pending.task is not None:
        pending.task.cancel()
