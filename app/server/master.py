"""What is set right in Gunicorn's master, whatever its worker class."""

from __future__ import annotations

import time
import types

from gunicorn import arbiter


def keep_steady_time() -> None:
    """Has the master wait for workers that stop by the monotonic clock.

    `Arbiter.stop` (Gunicorn 27.0.1) reckons `graceful_timeout` by the wall clock: where that steps forward meanwhile,
    it kills what is under way at once. Its module asks the time for nothing else that matters.
    """
    steady = types.ModuleType("time")
    vars(steady).update(vars(time), time=time.monotonic)
    arbiter.time = steady
