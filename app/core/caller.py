"""The caller of the current request, as far as a step may know it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.telemetry import check_deadline, current_request


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of one request.

    `deadline_s` is a monotonic time. After it the client no longer waits for the answer.
    """

    address: str = ""
    request_id: str = ""
    deadline_s: float = math.inf

    def check_deadline(self) -> None:
        """Look at the deadline; call it now and then in a step that takes long.

        A thread that does so is late past its deadline; one that does not may be taken for stuck.

        Raises:
            DeadlineExceeded: the deadline has passed; the step need not catch it.
        """
        check_deadline()


def caller() -> Caller:
    """Return the caller of the current request."""
    request = current_request.get()
    return Caller(request.address, request.id, request.deadline_s)
