"""The application behind the servers of these tests: inline paths, slow ones, and all kinds of failures."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from tests.server.serving import Serving

INLINE = ("/livez", "/readyz", "/quick", "/stats")


def fall(how: str) -> None:
    """End the process or the thread of a model in one of these ways."""
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "_exit":
        os._exit(7)
    elif how == "sys.exit":
        sys.exit(3)
    elif how == "interrupt":
        raise KeyboardInterrupt
    elif how == "recursion":
        fall(how)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "loop":
        # A call that keeps the GIL: nothing else of this process runs until it ends.
        ctypes.PyDLL(None).usleep(30_000_000)


class Application(Serving):
    """Distinguish clients by `X-Forwarded-For`, if they send it."""

    def __init__(self) -> None:
        self.drains = False
        self._seen = itertools.count()

    def runs_inline(self, environ: dict[str, Any]) -> bool:
        return environ["PATH_INFO"] in INLINE

    def client(self, environ: dict[str, Any]) -> str:
        client: str = environ.get("HTTP_X_FORWARDED_FOR") or environ["REMOTE_ADDR"]
        return client

    def started(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot

    def draining(self) -> None:
        self.drains = True

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path, seen = environ["PATH_INFO"], next(self._seen)
        asked = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
        status, body = "200 OK", environ["wsgi.input"].read()
        if path == "/readyz" and self.drains:
            status = "503 Service Unavailable"
        elif path == "/stats":
            told = self._snapshot() | {
                "pid": os.getpid(),
                "threads": threading.active_count(),
                "fds": len(list(Path("/proc/self/fd").iterdir())),
            }
            body = json.dumps(told).encode()
        elif path == "/count":
            body = b"%d" % seen
        elif path == "/fall":
            fall(asked["how"])
        elif path == "/length":
            body = b"%d" % len(body)
        if "sleep_s" in asked:
            time.sleep(float(asked["sleep_s"]))
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]


app = Application()
