"""Ctrl-C during a run: only the main process handles it. It stops its threads and its worker processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PARENT_CHECK_S = 1.0


def end_with(parent: int) -> None:
    """End this process soon after its parent ends, even if the parent was killed. loky alone would wait five minutes.

    Ignore Ctrl-C, which a terminal sends to all processes of a command: the parent handles it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, name="retort-parent", daemon=True).start()


def start_trackers() -> None:
    """Start the two resource trackers now. joblib would start them with the first worker, and would unblock SIGINT."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as loky_tracker

    resource_tracker.ensure_running()
    loky_tracker.ensure_running()


@contextmanager
def interrupting_only_this_thread() -> Iterator[None]:
    """Block SIGINT in the threads and processes that start inside this context.

    At Ctrl-C, a terminal sends SIGINT to all processes of a command. The main process stops the others.
    """
    blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
