"""Two hosts behind nginx, as docs/deployment.md sets it up: one may stop, die and return under load."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.docs.pages import titled
from tests.end_to_end.hosts import PORT, Host, Load, hosts, start_all
from tests.end_to_end.process import free_port
from tests.server.proxied import Nginx, nginx_with

pytestmark = [
    pytest.mark.any_worker,
    pytest.mark.needs_program("ip", "nginx"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

CLIENTS = 8
BEHIND_NGINX: dict[str, object] = {"RETORT_TRUSTED_PROXIES": 1}
AROUND = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-errors.log; worker_processes 1;
events {{ worker_connections 500; }}
http {{
    log_format short '$status;$upstream_addr';
    access_log {folder}/nginx-access.log short;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {shown}
}}
"""


def configuration(shown: str, folder: Path, port: int, first: Host, second: Host) -> str:
    """Return the configuration of a page, with the addresses of these hosts."""
    for place, host in (("10.0.0.1:8000", first), ("10.0.0.2:8000", second)):
        assert place in shown
        shown = shown.replace(place, f"{host.address}:{PORT}")
    shown = shown.replace("server {\n", f"server {{\n    listen 127.0.0.1:{port};\n")
    return AROUND.format(folder=folder, shown=shown)


def until_it_answers(nginx: Nginx, host: Host) -> None:
    """Wait until nginx sends requests to a host again."""
    before = nginx.access_log.read_text("utf-8").count(f"200;{host.address}:")
    until_s = time.monotonic() + 10
    while nginx.access_log.read_text("utf-8").count(f"200;{host.address}:") == before:
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_one_of_two_hosts_may_stop_and_return(tmp_path: Path) -> None:
    shown, port = titled("docs/deployment.md", "nginx.conf"), free_port()
    with hosts(tmp_path, 2) as (first, second):
        start_all([first, second], lambda host: BEHIND_NGINX)
        conf = configuration(shown, tmp_path, port, first, second)
        with nginx_with(tmp_path, conf, port) as nginx, Load(port, CLIENTS) as load:
            until_it_answers(nginx, first)
            until_it_answers(nginx, second)

            assert first.stop() == 0
            load.until_answered(200)
            assert load.failed == {}, "a host that stops loses nothing"

            first.start(**BEHIND_NGINX)
            until_it_answers(nginx, first)
            assert load.failed == {}, "nor does one that comes back"

            second.kill()
            load.until_answered(200)
            assert load.failed.total() <= CLIENTS, "only what was in flight"
            assert not {"wrong", "500"} & load.failed.keys()

            failed = load.failed
            second.start(**BEHIND_NGINX)
            until_it_answers(nginx, second)
            assert load.failed == failed
