"""Servers that are stopped, reloaded and recycled while clients ask, alone and behind nginx."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.server.process import Server, free_port
from tests.server_worker.served import Outcomes, client, load

NGINX_WITHIN_S = 5.0
FAIL_TIMEOUT_S = 1
"""nginx leaves an upstream that failed alone for so long."""


def once(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)


def twice_to_the_group(server: Server) -> None:
    """As a platform does that signals every process of a container."""
    for _ in range(2):
        os.killpg(server.process.pid, signal.SIGTERM)
        time.sleep(0.05)


async def terminated(
    server: Server, clients: int, at_s: float, for_s: float, stop: Callable[[Server], None] = once
) -> Outcomes:
    """Clients, every second of them with a new connection for each request, before and after the stop."""
    outcomes = Outcomes()
    until_s = time.monotonic() + for_s
    asking = [client(server.port, outcomes, until_s, "/echo?sleep_s=0.01", keeps=at % 2 == 0) for at in range(clients)]

    async def stop_it() -> None:
        await asyncio.sleep(at_s)
        await asyncio.to_thread(stop, server)

    await asyncio.gather(stop_it(), *asking)
    return outcomes


async def reloaded(server: Server, times: int, every_s: float) -> Outcomes:
    """SIGHUP, so often; the next when every worker of the last is gone."""
    async with load(server.port, 8) as kept, load(server.port, 8, keeps=False) as short:
        for _ in range(times):
            await asyncio.sleep(every_s)
            before = set(server.workers)
            server.process.send_signal(signal.SIGHUP)
            began_s = time.monotonic()
            while before & set(server.workers):
                assert time.monotonic() - began_s < 10
                await asyncio.sleep(0.05)
        await asyncio.sleep(every_s)
    return kept.with_those_of(short)


async def recycled(server: Server, for_s: float) -> tuple[Outcomes, set[int]]:
    """Under `max_requests`: what became of the requests, and the workers that were seen."""
    seen: set[int] = set()
    async with load(server.port, 8) as kept, load(server.port, 4, keeps=False) as short:
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            await asyncio.sleep(0.1)
            seen |= set(server.workers)
    return kept.with_those_of(short), seen


@contextlib.contextmanager
def nginx_before(folder: Path, ports: Sequence[int]) -> Iterator[int]:
    """nginx with these upstreams; its port."""
    port = free_port()
    upstreams = " ".join(f"server 127.0.0.1:{upstream} fail_timeout={FAIL_TIMEOUT_S};" for upstream in ports)
    conf = folder / "nginx.conf"
    conf.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;"
        "events { worker_connections 500; } http { access_log off;"
        f"client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;"
        f"uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;"
        f"upstream both {{ {upstreams} keepalive 8; }}"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://both; proxy_http_version 1.1;"
        'proxy_set_header Connection ""; proxy_next_upstream error timeout non_idempotent; } } }',
        "utf-8",
    )
    process = subprocess.Popen(["nginx", "-c", str(conf), "-p", str(folder)])
    try:
        deadline_s = time.monotonic() + NGINX_WITHIN_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def one_of_two_terminated(port: int, victim: Server, at_s: float, for_s: float) -> Outcomes:
    """Clients of nginx on `port`, one of whose upstreams is stopped."""
    outcomes = Outcomes()
    until_s = time.monotonic() + for_s

    async def stop() -> None:
        await asyncio.sleep(at_s)
        victim.process.terminate()

    await asyncio.gather(stop(), *[client(port, outcomes, until_s) for _ in range(8)])
    return outcomes
