"""Clients generated from /openapi.json, by the commands of docs/frontend.md, predict with penguins."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.clients.venvs import NPM, node_modules, python_of, ran, said_by
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, Server

pytestmark = [pytest.mark.server, pytest.mark.any_worker]

PAGE = (ROOT / "docs" / "frontend.md").read_text("utf-8")
SECTION = PAGE.partition("## Generated clients\n")[2].partition("\n## ")[0]
COMMANDS = dict(re.findall(r"^\| ([^|]+?) \| `([^`]+)` \|$", SECTION, re.MULTILINE))
EXAMPLES = json.loads((EXAMPLE_MODELS / "penguins/1/manifest.json").read_text("utf-8"))["examples"]
RECORDS = [example["instance"] for example in EXAMPLES[:3]]


def generate(server: Server, folder: Path, generator: str, node: bool = False) -> dict[str, str]:
    """Run the page's command in a folder; return the environment with the programs."""
    programs = [str(python_of("openapi").parent)]
    if node:
        (folder / "node_modules").symlink_to(node_modules())
        programs.append(str(folder / "node_modules" / ".bin"))
    environment = {**os.environ, "PATH": os.pathsep.join([*programs, os.environ["PATH"]])}
    assert "http://localhost:8000/" in COMMANDS[generator]
    said = ran(shlex.split(COMMANDS[generator].replace("http://localhost:8000", server.root)), environment, folder)
    assert "arning(s) encountered" not in said  # openapi-python-client leaves out the parts that it cannot read
    return environment


def said_by_node(server: Server, folder: Path, script: str, environment: dict[str, str]) -> Any:
    """Check the types of a script of `npm/` with TypeScript, run it, and return the answers that it prints."""
    (folder / f"{script}.ts").write_text((NPM / f"{script}.ts").read_text("utf-8"), "utf-8")
    options = "--strict --skipLibCheck --target es2022 --module node16 --esModuleInterop --types node --outDir out"
    ran(["tsc", *options.split(), f"{script}.ts"], environment, folder)
    return json.loads(ran(["node", f"out/{script}.js", server.root, json.dumps(RECORDS)], environment, folder))


def check(told: dict[str, Any], server: Server, refused: str) -> None:
    """Compare the answers with the server's answers to plain requests; `refused` is the place of the bad value."""
    one, many = (
        server.ask("POST", "/models/penguins/predict", json.dumps(body)).document
        for body in (RECORDS[0], {"instances": RECORDS})
    )
    assert told == {
        "one": one,
        "many": many,
        "rows": many["prediction"],
        "refused": [422, "1 value is not acceptable", refused],
    }


def test_openapi_python_client(server: Server, tmp_path: Path) -> None:
    generate(server, tmp_path, "openapi-python-client")
    told = said_by("openapi", "openapi_python_client", server.root, json.dumps(RECORDS), path=tmp_path)
    check(told, server, "#/instances/1/year")


@pytest.mark.needs_program("java")
def test_openapi_generator_python(server: Server, tmp_path: Path) -> None:
    generate(server, tmp_path, "openapi-generator, `python`")
    told = said_by("openapi", "openapi_generator_python", server.root, json.dumps(RECORDS), path=tmp_path / "python")
    check(told, server, "#/0/6")


@pytest.mark.needs_program("java", "node", "npm")
def test_openapi_generator_typescript_axios(server: Server, tmp_path: Path) -> None:
    environment = generate(server, tmp_path, "openapi-generator, `typescript-axios`", node=True)
    check(said_by_node(server, tmp_path, "axios", environment), server, "#/1/year")


@pytest.mark.needs_program("node", "npm")
def test_openapi_typescript_with_openapi_fetch(server: Server, tmp_path: Path) -> None:
    environment = generate(server, tmp_path, "openapi-typescript with openapi-fetch", node=True)
    check(said_by_node(server, tmp_path, "fetch", environment), server, "#/1/year")
