"""The procedures of the runbook, as docs/runbook.md shows them: back up, lose everything, restore; rotate a key."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.storage.key_store import KeyStore
from app.storage.keys import make_key
from tests.docs.pages import titled
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, Server, environment, serving

pytestmark = pytest.mark.any_worker

PAGE = "docs/runbook.md"
PREDICT, RECORD = "/models/iris-two/predict", '{"feature1": 5.1, "feature2": 3.5}'
WITHIN_S = 30.0
LOCKED_S = 3.0
"""Longer than the interval in which a worker reads the keys again."""


class Site:
    """A folder to run a server and to type commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {
            "RETORT_MODELS_DIR": folder / "models",
            "RETORT_INSTANCE_DIR": folder / "instance",
            "FLASK_APP": ROOT / "wsgi.py",
            "PYTHONPATH": ROOT,
        }
        shutil.copytree(EXAMPLE_MODELS / "iris-two", folder / "models" / "iris-two")
        (folder / ".venv").symlink_to(sys.prefix)

    def run(self, script: str, **variables: str) -> str:
        """Run commands as a page shows them, and return what they print."""
        ran = subprocess.run(
            ["sh", "-ec", script],
            cwd=self.folder,
            env=environment(**self.settings, **variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def key(self) -> str:
        """Make a key, as `flask keys create` does."""
        key, stored = make_key("phone", ("predict",))
        with contextlib.closing(KeyStore(make_url(f"sqlite:///{self.folder}/instance/retort.db"))) as store:
            store.add(stored)
        return key


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def key(site: Site) -> str:
    return site.key()


@pytest.fixture(scope="module")
def server(site: Site, key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served"), until="/readyz", WEB_CONCURRENCY=1, **site.settings) as started:
        yield started


def status(server: Server, key: str) -> int:
    return server.ask("POST", PREDICT, RECORD, {"X-API-Key": key}).status


def until(server: Server, key: str, wanted: int) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while status(server, key) != wanted:
        assert time.monotonic() < deadline_s, server.output[-2000:]
        time.sleep(0.05)


def test_a_backup_is_all_that_a_server_needs(site: Site, key: str, server: Server) -> None:
    assert status(server, key) == 200
    site.run(titled(PAGE, "backup.sh"))
    later = site.key()
    until(server, later, 200)
    shutil.rmtree(site.folder / "models")
    shutil.rmtree(site.folder / "instance")
    said = site.run(titled(PAGE, "restore.sh"))
    assert "iris-two" in said
    assert "phone" in said
    assert (site.folder / "instance" / "retort.db").stat().st_mode & 0o777 == 0o600
    site.run(".venv/bin/flask models reload")
    until(server, later, 401)
    assert status(server, key) == 200


@pytest.mark.fault("S04")
def test_s04_keys_hold_while_another_process_locks_their_database(site: Site, key: str, server: Server) -> None:
    with contextlib.closing(sqlite3.connect(site.folder / "instance" / "retort.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        over_s, statuses = time.monotonic() + LOCKED_S, set[int]()
        while time.monotonic() < over_s:
            statuses.add(status(server, key))
            time.sleep(0.02)
    assert statuses == {200}
    until(server, site.key(), 200)


def test_a_key_is_rotated_without_a_refused_request(site: Site, key: str, server: Server) -> None:
    id_ = key.split("_")[1]
    said = site.run(titled(PAGE, "rotate.sh"), ID=id_)
    assert f"{id_} holds until " in said
    new = said.split()[-1]
    until(server, new, 200)
    assert status(server, key) == 200
    site.run(titled(PAGE, "revoke.sh"), ID=id_)
    until(server, key, 401)
    assert status(server, new) == 200
