"""nginx from Debian in front of servers, as a separate process."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.process import free_port

CONF = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-errors.log; worker_processes 1;
events {{ worker_connections 500; }}
http {{
    log_format short '$status;$upstream_addr';
    access_log {folder}/nginx-access.log short;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream behind {{ {servers} keepalive {keepalive}; }}
    server {{
        listen 127.0.0.1:{port};
        location {location} {{
            proxy_pass http://behind{sent_as}; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_next_upstream error timeout non_idempotent;
            {options}
        }}
    }}
}}
"""
STARTS_WITHIN_S = 60.0
FAIL_TIMEOUT_S = 1
"""The time for which nginx avoids a server after a failure."""


@dataclass
class Nginx:
    port: int
    access_log: Path

    @property
    def sent_on(self) -> int:
        """Return how many requests nginx has sent to its upstreams, repeated ones included."""
        lines = self.access_log.read_text("utf-8").splitlines()
        return sum(line.count(":") for line in lines)


@contextlib.contextmanager
def nginx_before(
    folder: Path, *ports: int, keepalive: int = 8, options: str = "", location: str = "/", sent_as: str = ""
) -> Iterator[Nginx]:
    """Run nginx in front of the servers on these ports, with this many open connections to them.

    It serves them at `location`, and replaces that part of the path by `sent_as` unless that is empty.
    """
    port = free_port()
    behind = " ".join(f"server 127.0.0.1:{upstream} fail_timeout={FAIL_TIMEOUT_S};" for upstream in ports)
    conf = CONF.format(
        folder=folder,
        port=port,
        servers=behind,
        keepalive=keepalive,
        options=options,
        location=location,
        sent_as=sent_as,
    )
    with nginx_with(folder, conf, port) as nginx:
        yield nginx


@contextlib.contextmanager
def nginx_with(folder: Path, conf: str, port: int) -> Iterator[Nginx]:
    """Run nginx with this configuration; yield when it listens on its port."""
    path = folder / "nginx.conf"
    path.write_text(conf, "utf-8")
    process = subprocess.Popen(["nginx", "-c", str(path), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < until_s and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        assert process.poll() is None, (folder / "nginx-errors.log").read_text("utf-8")
        yield Nginx(port, folder / "nginx-access.log")
    finally:
        process.terminate()
        process.wait(10)
