"""The steps of the Dockerfile, run in a folder: their size, and the resulting server."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Build, size_mb
from tests.end_to_end.process import Server, free_port

pytestmark = [pytest.mark.server, pytest.mark.any_worker, pytest.mark.early]

MOST_MB = 300
"""Limit for all layers above the base image."""


@pytest.fixture(scope="module")
def image() -> Iterator[Build]:
    """Yield the folder of the last stage. Other users may read it, as in a container."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        build = Build(Path(folder))
        build.run()
        yield build


def user_of(image: Build) -> int | None:
    """Return the user of the image, if this process may become that user, who can then run Python; else None."""
    user, group = map(int, image.stages[-1].last("USER").split(":"))
    if os.geteuid() != 0:
        return None
    python = image.home / ".venv" / "bin" / "python"
    try:
        subprocess.run([python, "-c", ""], user=user, group=group, extra_groups=[], check=True, cwd="/")
    except (OSError, subprocess.CalledProcessError):  # the Python of the environment is in another user's home
        return None
    return user


@pytest.fixture(scope="module")
def server(image: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    final, port = image.stages[-1], free_port()
    user = user_of(image)
    started = Server.__new__(Server)
    started.port, started.said = port, tmp_path_factory.mktemp("image") / "said"
    environ = image.environment(final) | {"HOST": "127.0.0.1", "PORT": str(port)}
    with started.said.open("wb") as stream:
        started.process = subprocess.Popen(
            final.command,
            cwd=image.home,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    try:
        yield started.wait()
    finally:
        started.stop()


def test_the_layers_are_small(image: Build) -> None:
    assert size_mb(image.folder) <= MOST_MB, size_mb(image.folder)


def test_the_image_has_only_the_files_for_serving(image: Build) -> None:
    names = {path.name for path in image.home.iterdir()}
    assert {".venv", "app", "models", "wsgi.py"} <= names
    assert not names & {"tests", "docs", "benchmarks", "examples", "deploy", ".git", ".env", "Makefile", "build"}
    assert list((image.home / "app" / "__pycache__").glob("*.pyc"))
    assert not list((image.home / ".venv" / "bin").glob("pip*"))


def test_the_command_of_the_image_serves_every_model(server: Server) -> None:
    assert server.ask("GET", "/readyz").status == 200
    assert server.ask("POST", "/models/iris-two/predict", '{"feature1": 5.1, "feature2": 3.5}').status == 200


def test_the_health_check_fails_without_a_server(image: Build, server: Server) -> None:
    final = image.stages[-1]
    environ = image.environment(final)
    for port, status in ((server.port, 0), (free_port(), 1)):
        ran = subprocess.run(
            final.healthcheck, env=environ | {"PORT": str(port)}, cwd=image.home, capture_output=True, check=False
        )
        assert ran.returncode == status, ran


def test_the_server_writes_nothing_beside_its_files(image: Build, server: Server) -> None:
    """A read-only root file system is enough."""
    assert server.ask("GET", "/docs").status == 200
    assert set(image.folder.rglob("*")) == image.files
