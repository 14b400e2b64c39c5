"""The examples of README and docs: commands run, answers are as shown, scripts and snippets work.

The server and the browser of these tests are not marked as such: nothing is timed, so they may share the machine, and
all of them need the same workshop, which takes a minute to make.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from flask import Flask

from app.runtime.proving import same
from tests.docs.pages import BLOCKS, Block
from tests.docs.workshop import Workshop, is_taken, shown_in
from tests.end_to_end.process import Server, environment, free_port, serving
from tests.server.proxied import nginx_with
from tests.web.stage import serving as serving_here

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.early]

COMMANDS = [block for block in BLOCKS if is_taken(block) and not block.title]
REQUESTS = [block for block in BLOCKS if block.is_request]
CLIENTS = [block for block in BLOCKS if block.language == "python" and not block.title and not is_taken(block)]
SNIPPETS = [block for block in BLOCKS if block.language == "js"]
PROXIES = [block for block in BLOCKS if block.language == "nginx" and not block.title]
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-errors.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen 127.0.0.1:{port};
{locations}
    }}
}}
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Return the folder after all commands of all pages."""
    made = Workshop.made_in(tmp_path_factory.mktemp("workshop"))
    for block in filter(is_taken, BLOCKS):
        made.take(block)
    return made


@pytest.fixture(scope="module")
def frontend() -> Iterator[str]:
    """Serve a page of another origin, and yield its address."""
    page = Flask("frontend")
    page.add_url_rule("/", "page", lambda: "<!doctype html><title>A frontend</title>")
    with serving_here(page) as address:
        yield address


@pytest.fixture(scope="module")
def server(workshop: Workshop, frontend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve all models of the pages."""
    folder = workshop.folder
    with serving(
        tmp_path_factory.mktemp("docs-server"),
        RETORT_MODELS_DIR=folder / "models",
        RETORT_CORS_ORIGINS=f"https://app.example.org,{frontend}",
        RETORT_TRUSTED_PROXIES=1,
        RETORT_STEPS="my_steps",
        DATABASE_URL=f"sqlite:///{folder}/build/customers.db",
        PYTHONPATH=os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])),
    ) as started:
        yield started


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_and_scripts_run(workshop: Workshop, block: Block) -> None:
    ran = workshop.ran[block]
    assert ran.status == 0, ran.errors
    if block.answer is not None and block.answer.language == "text":
        assert shown_in(block.answer.text, ran.printed), f"it prints:\n{ran.printed}"


def test_every_model_of_the_pages_is_ready(server: Server) -> None:
    answer = server.ask("GET", "/readyz")
    assert answer.status == 200, answer.content


@pytest.mark.needs_program("curl")
@pytest.mark.parametrize("block", REQUESTS, ids=str)
def test_a_request_is_answered_as_shown(server: Server, workshop: Workshop, block: Block) -> None:
    assert block.answer is not None
    assert block.answer.language == "json"
    assert "localhost:8000" in block.text
    line = block.text.replace("localhost:8000", f"127.0.0.1:{server.port}").replace(
        "curl ", "curl -sS --max-time 20 ", 1
    )
    asked = subprocess.run(
        ["sh", "-c", line], cwd=workshop.folder, env=environment(), capture_output=True, text=True, check=True
    )
    got, expected = json.loads(asked.stdout), json.loads(block.answer.text)
    assert list(got) == list(expected), asked.stdout
    assert same(json_lists(expected), json_lists(got)), asked.stdout


def json_lists(document: Any) -> Any:
    """Return objects as lists of pairs, which `same` compares with the tolerance of the service."""
    if isinstance(document, dict):
        return [[key, json_lists(value)] for key, value in document.items()]
    return [json_lists(value) for value in document] if isinstance(document, list) else document


@pytest.mark.slow
@pytest.mark.parametrize("block", CLIENTS, ids=str)
def test_a_script_that_asks_a_server_runs(server: Server, block: Block) -> None:
    script = block.text.replace("http://localhost:8000", server.root)
    ran = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
@pytest.mark.needs_program("chromium")
@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_a_snippet_runs_in_a_page_of_another_origin(
    server: Server, frontend: str, chromium: Browser, block: Block
) -> None:
    script = block.text.replace("http://localhost:8000", server.root)
    page = chromium.new_page()
    page.goto(frontend)
    keep = "const logged = []; console.log = (value) => logged.push(value);"
    logged = page.evaluate(f"async () => {{ {keep}\n{script} return logged; }}")
    page.close()
    assert logged == [0]


@pytest.mark.slow
@pytest.mark.needs_program("nginx")
@pytest.mark.parametrize("block", PROXIES, ids=str)
def test_nginx_takes_the_configuration_and_passes_requests_on(server: Server, tmp_path: Path, block: Block) -> None:
    port = free_port()
    locations = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    prefix = "/ml" if "/ml/" in block.text else ""
    with nginx_with(tmp_path, NGINX.format(folder=tmp_path, port=port, locations=locations), port):
        root = f"http://127.0.0.1:{port}{prefix}"
        assert status_of(f"{root}/livez") == 200
        is_open = status_of(f"{root}/v2/repository/index", b"{}") == 200
    assert is_open is ("deny all" not in block.text)


def status_of(url: str, body: bytes | None = None) -> int:
    try:
        with urlopen(Request(url, body), timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code
