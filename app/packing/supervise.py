"""Supervise the process that packs, and end all processes that it has started, however it ends.

A pickle may start processes that leave their group and their session. On Linux they become children of the supervisor
when their own parent ends, so that it finds all of them. On other systems only the process that packs is ended.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from app.runtime.parent_process import adopt_orphans, signal_when_parent_ends

ENDED_WITHIN_S = 5.0


def supervise(work: Callable[[], None], clean: Callable[[], None], limit_bytes: int) -> int:
    """Do the work in a child process that ends with its parent; then end all processes that the child left running.

    Call `clean` if the work did not end with status 0. The memory limit applies to the child and to each process that
    it starts.

    Returns:
        The exit status of the child, or minus the number of the signal that ended it.
    """
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        parent = os.getppid()
        signal_when_parent_ends(signal.SIGTERM)
        if parent != os.getppid():
            raise _Stopped(signal.SIGTERM)
        child = os.fork()
        if child == 0:
            _prepare_child(limit_bytes)
            _run_and_exit(work)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except _Stopped as stopped:
        status = -stopped.number
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end_children()
    if status != 0:
        clean()
    return status


def end_like(status: int) -> None:
    """End this process with a status that `supervise` returned."""
    if status >= 0:
        sys.exit(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


class _Stopped(BaseException):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped(number)


def _prepare_child(limit_bytes: int) -> None:
    """Restore the signals of the child, limit its memory, and let it end with its parent."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal_when_parent_ends(signal.SIGKILL)
    # RLIMIT_DATA, not RLIMIT_AS: libraries reserve far more addresses than they use.
    allowed_bytes = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if allowed_bytes != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, allowed_bytes)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def _run_and_exit(work: Callable[[], None]) -> None:
    """Do the work, and end the child with status 0 if it succeeded, else 1."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:  # the child must not continue in the code of the supervisor
        sys.stderr.flush()
        os._exit(status)


def _end_children() -> None:
    """Kill and reap every descendant. Children of a killed process become children of this one, and are next."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    until_s = time.monotonic() + ENDED_WITHIN_S
    while time.monotonic() < until_s:
        with contextlib.suppress(OSError):
            for child in children.read_text("ascii").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)
        try:
            os.waitpid(-1, 0 if children.exists() else os.WNOHANG)
        except ChildProcessError:
            return
