"""What is known to be quick: answered on the loop's thread, at the end of the turn in which it was read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any

from app.server.answers import Answer
from app.server.connection import WAITING, Connection
from app.server.dispatch import Together, Whole, WSGIApplication, begin_inline, close_request, settled
from app.server.parsing import Head

if TYPE_CHECKING:
    from app.server.desk import Desk

log = logging.getLogger(__name__)

Request = tuple[Connection, Head]


class Quick:
    """The quick requests of one worker. Belongs to the loop's thread.

    What one turn reads is mostly for one model. Asked for together, each part of the work is done for all of them
    before the next part, and the processor's caches stay warm: that costs a fraction of one after another.
    """

    def __init__(self, desk: Desk, app: WSGIApplication, leaving: Callable[[], bool]) -> None:
        self.read: list[Request] = []
        """Those that were read and are to be answered."""
        self._desk = desk
        self._app = app
        self._leaving = leaving
        self._is_quick: Callable[[dict[str, Any]], bool] | None = getattr(app, "quick", None)
        self._lane: Callable[[dict[str, Any]], Hashable] = getattr(app, "lane", _of_no_lane)
        self._together: Together = getattr(app, "together", _each_alone)

    def takes(self, connection: Connection, head: Head) -> bool:
        """Whether the request is answered here, at the end of this turn."""
        try:
            takes = self._is_quick is not None and self._is_quick(head.environ)
        except Exception:
            log.exception("the application's quick() failed")
            takes = False
        if takes:
            self.read.append((connection, head))
        return takes

    def answers(self) -> Iterator[tuple[Connection, Head, Whole | None]]:
        """Those that were read, each with its answer where that was found together with others."""
        requests, self.read = self.read, []
        for several in [requests] if len(requests) == 1 else self._by_lane(requests):
            found: list[Whole | None] = [None] * len(several)
            if len(several) > 1:
                try:
                    found = self._together([head.environ for _, head in several])
                except Exception:
                    log.exception("the application's together() failed")
            for (connection, head), whole in zip(several, found, strict=True):
                yield connection, head, whole

    def _by_lane(self, requests: list[Request]) -> Iterator[list[Request]]:
        lanes: dict[Hashable, list[Request]] = {}
        for request in requests:
            try:
                lane = self._lane(request[1].environ)
            except Exception:
                log.exception("the application's lane() failed")
                lane = None
            if lane is None:
                yield [request]
            else:
                lanes.setdefault(lane, []).append(request)
        yield from lanes.values()

    def answer(self, connection: Connection, head: Head, whole: Whole | None, now_s: float) -> None:
        """Sends the answer that was found with others, or finds it now."""
        desk, environ = self._desk, head.environ
        if connection.state is not WAITING:  # its client has left in this turn
            close_request(environ, None)
            return
        desk.stats.inline += 1
        answer = Answer(environ["REQUEST_METHOD"] == "HEAD")
        journal = desk.journal
        began_s = journal.began(head) if journal.wanted else 0.0
        app_iter: Any = None
        body: Any = b""
        try:
            if whole is not None:
                body = settled(answer, whole)
            else:
                app_iter, body = begin_inline(self._app, environ, answer)
        except BaseException as error:
            if self._leaving():
                raise
            desk.refusals.failed(connection, head, error, now_s)
            return
        finally:
            if isinstance(body, bytes):
                close_request(environ, app_iter)
        if not isinstance(body, bytes):
            desk.go_on_in_thread(connection, head, answer, app_iter, body, now_s)
            return
        desk.send(connection, head, answer, body, now_s)
        if journal.wanted:
            journal.ended(head, answer, began_s)


def _of_no_lane(environ: dict[str, Any]) -> None:
    return None


def _each_alone(environs: list[dict[str, Any]]) -> list[Whole | None]:
    return [None] * len(environs)
