"""Ctrl-C during a run: the process that began the run gets it, and ends its threads and its worker processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PARENT_LOOK_S = 1.0


def end_with(parent: int) -> None:
    """End this process soon after its parent, even if the parent was killed. loky's own would wait five minutes.

    Ctrl-C is the parent's: a terminal sends it to all processes of a command.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, name="retort-parent", daemon=True).start()


def start_trackers() -> None:
    """Start the two processes that would begin with the first worker, because the code that does so unblocks SIGINT."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as loky_tracker

    resource_tracker.ensure_running()
    loky_tracker.ensure_running()


@contextmanager
def interrupting_only_this_thread() -> Iterator[None]:
    """Let threads and processes that are started here never get SIGINT.

    At Ctrl-C a terminal sends it to all processes of a command. The one that began them ends them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
