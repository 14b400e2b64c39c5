"""Check that the server can listen, before it loads models; if it cannot, name the setting to change."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import time
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

FREE_WITHIN_S = 5.0
"""Longest wait for a port whose server is stopping, the same as Gunicorn's."""
RETRY_S = 0.25
HANDED_OVER = ("GUNICORN_PID", "LISTEN_FDS")
"""Environment variables that are set if another process has opened the sockets."""


def require_free(addresses: Iterable[object], reuse_port: bool, within_s: float = FREE_WITHIN_S) -> None:
    """Wait until every address is free. The sockets of systemd and of an older master are not checked.

    Args:
        addresses: in Gunicorn's form: `(host, port)`, the path of a Unix socket, or the number of a descriptor.
        reuse_port: whether several servers may share a port.
        within_s: how long to wait for a port in use.

    Raises:
        SystemExit: the server cannot listen at an address. The exit message is one sentence.
    """
    if any(name in os.environ for name in HANDED_OVER):
        return
    for address in addresses:
        if isinstance(address, tuple):
            _require_port(str(address[0]), int(address[1]), reuse_port, within_s)
        elif isinstance(address, str):
            _require_path(Path(address))


def _require_port(host: str, port: int, reuse_port: bool, within_s: float) -> None:
    until_s = time.monotonic() + within_s
    is_waiting = False
    while (error := _error(host, port, reuse_port)) is not None:
        if error.errno != errno.EADDRINUSE or time.monotonic() >= until_s:
            raise SystemExit(f"retort: {_sentence(host, port, error)}")
        if not is_waiting:
            is_waiting = True
            log.warning("port %d of %s is in use; waiting up to %g s for it", port, host, within_s)
        time.sleep(RETRY_S)


def _error(host: str, port: int, reuse_port: bool) -> OSError | None:
    """Bind an address in the same way as Gunicorn, and return the error; None if the address is free."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port and hasattr(socket, "SO_REUSEPORT"):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        return error
    return None


def _sentence(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 8000
        return f"port {port} of {host} is in use; stop what listens there, or set another PORT, as in PORT={other}"
    if error.errno == errno.EACCES:
        return f"only root may listen at port {port} on this machine; set PORT to 1024 or more, as in PORT=8000"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {host}; set HOST to one that it has, such as 127.0.0.1 or 0.0.0.0"
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known; set HOST to a name or an address of this machine, such as 127.0.0.1"
    return f"nothing can listen at port {port} of {host} ({error.strerror}); HOST and PORT set the address"


def _require_path(path: Path) -> None:
    if not path.parent.is_dir():
        raise SystemExit(f"retort: the folder of the Unix socket {path} does not exist; HOST=unix:/path sets it")
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise SystemExit(f"retort: {path} is there and is not a Unix socket; HOST=unix:/path sets another")
