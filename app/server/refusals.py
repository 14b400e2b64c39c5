"""What is told of a request that the application does not answer: one problem for each reason."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from app.errors import BodyTooLarge
from app.server import answers
from app.server.answers import Stamp
from app.server.connection import Connection
from app.server.journal import Journal
from app.server.limits import Limits
from app.server.parsing import Head
from app.server.stats import Stats

log = logging.getLogger(__name__)

Refusal = Callable[[str, int, str, str], tuple[bytes, str] | None]
"""An application's words for a path, status, name and detail: a body and its media type, or None."""
PATH = re.compile(rb"[!-~]+ (/[^\s?]*)[ ?]")


class Refusals:
    """Answers in the server's own name, counts it and logs it. Belongs to the loop's thread."""

    def __init__(
        self,
        limits: Limits,
        stats: Stats,
        stamp: Stamp,
        journal: Journal,
        keeps: Callable[[Connection, Head, float], bool],
        refusal: Refusal | None,
    ) -> None:
        self._limits = limits
        self._stats = stats
        self._stamp = stamp
        self._journal = journal
        self._keeps = keeps
        self._refusal = refusal

    def answer(
        self,
        connection: Connection,
        head: Head | None,
        status: int,
        name: str,
        detail: str,
        now_s: float,
        retry_after_s: int | None = None,
        keeps: bool = True,
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Answers with a problem; the connection stays open only where the request was read whole."""
        self._stats.refuse(name.replace("-", "_"))
        environ = head.environ if head is not None else {}
        path = environ["PATH_INFO"] if head is not None else _path_of(connection.received)
        words = self._words(path, status, name, detail)
        sent_id = environ.get("HTTP_X_REQUEST_ID")
        answer = answers.problem(status, name, detail, sent_id, retry_after_s, words, fields)
        body = b"" if environ.get("REQUEST_METHOD") == "HEAD" else b"".join(answer.written or ())
        keeps = keeps and head is not None and self._keeps(connection, head, now_s)
        stamp = self._stamp.keep_alive if keeps else self._stamp.close
        protocol = environ.get("SERVER_PROTOCOL", "HTTP/1.1")
        connection.answer(answers.head(answer, protocol, stamp), body, keeps, now_s)
        if head is not None and self._journal.wanted:
            answer.sent = len(body)
            self._journal.ended(head, answer, now_s)

    def _words(self, path: str, status: int, name: str, detail: str) -> tuple[bytes, str] | None:
        """What the application has for the path in place of a problem document."""
        try:
            return self._refusal(path, status, name, detail) if self._refusal is not None and path else None
        except Exception:
            log.exception("the application's refusal() failed")
            return None

    def busy(self, connection: Connection, head: Head, name: str, now_s: float) -> None:
        """The queue is full, or it waited too long."""
        detail = "the server is at its capacity; try again in a moment"
        self.answer(connection, head, 503, name.replace("_", "-"), detail, now_s, self._limits.retry_after_s)

    def greedy(self, connection: Connection, head: Head, share: float, now_s: float) -> None:
        """The queue is full, and more requests of this client wait in it than the share that each client has.

        The fields are those of draft-ietf-httpapi-ratelimit-headers-11.
        """
        allowed, again_s = max(1, int(share)), self._limits.retry_after_s
        detail = (
            f"the server is at its capacity, and more requests of this client wait than of others: {allowed} may, as"
            " long as so many clients wait; try again in a moment"
        )
        fields = [
            ("RateLimit-Policy", f'"queue";q={allowed};qu="concurrent-requests"'),
            ("RateLimit", f'"queue";r=0;t={again_s}'),
        ]
        self.answer(connection, head, 429, "too-many-requests", detail, now_s, again_s, fields=fields)

    def failed(self, connection: Connection, head: Head, error: BaseException | None, now_s: float) -> None:
        """The application raised, or broke the protocol."""
        if error is not None:
            log.error("error in %s %r", head.environ["REQUEST_METHOD"], head.environ["RAW_URI"], exc_info=error)
        detail = "the server failed on this request; its log has the cause under the request id"
        self.answer(connection, head, 500, "internal-error", detail, now_s)

    def malformed(self, connection: Connection, error: Exception, now_s: float) -> None:
        """What was sent is not a request, or not the rest of one, by Gunicorn's parser."""
        status = answers.parse_status(error)
        log.warning("invalid request from %s: %s", connection.peer.environ.get("REMOTE_ADDR"), ascii(str(error))[:300])
        detail = "the configuration of the server does not fit this request" if status == 500 else _plain(error)
        self.answer(connection, connection.head, status, "malformed-request", detail, now_s, keeps=False)

    def too_long(self, connection: Connection, head: Head, now_s: float) -> None:
        """The body is over the limit."""
        detail = BodyTooLarge(self._limits.body_bytes).detail
        self.answer(connection, head, 413, "body-too-large", detail, now_s, keeps=False)

    def too_many_chunks(self, connection: Connection, head: Head, now_s: float) -> None:
        """The body is in too many pieces."""
        detail = f"the body comes in more than {self._limits.body_chunks} chunks, the most this server reads"
        self.answer(connection, head, 413, "body-too-large", detail, now_s, keeps=False)

    def cut_short(self, connection: Connection, head: Head, now_s: float) -> None:
        """The client ended before its body did."""
        detail = "the connection ended before the body did"
        self.answer(connection, head, 400, "incomplete-body", detail, now_s, keeps=False)

    def too_slow(self, connection: Connection, head: Head | None, now_s: float) -> None:
        """The deadline of a head or a body has passed."""
        detail = f"the {'head' if head is None else 'body'} of the request did not arrive in time"
        name = "head-timeout" if head is None else "body-timeout"
        self.answer(connection, head, 408, name, detail, now_s, keeps=False)

    def no_room(self, connection: Connection, head: Head, error: OSError, now_s: float) -> None:
        """The body could not be written to a temporary file."""
        log.error("a request's body could not be spooled: %s", error)
        detail = "the server has no room for the body"
        self.answer(connection, head, 503, "no-room", detail, now_s, self._limits.retry_after_s, keeps=False)


def _path_of(received: bytes) -> str:
    """The path that the beginning of a request names; empty where it names none yet."""
    begun = PATH.match(received)
    return begun[1].decode("latin-1") if begun else ""


def _plain(error: Exception) -> str:
    return "the request is not valid HTTP/1.1: " + ascii(str(error))[1:-1][:300]
