"""`python -m app.start` checks the settings, then runs a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SHOW = (sys.executable, "-c", "import os; print(os.environ['WEB_CONCURRENCY'], os.getpid())")


def start(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "app.start", *command],
        cwd=ROOT,
        env={"FLASK_SKIP_DOTENV": "1", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("text", "number"), [(None, "1"), ("", "1"), ("3", "3")])
def test_the_command_gets_a_number_of_workers(text: str | None, number: str) -> None:
    done = start(*SHOW, **({} if text is None else {"WEB_CONCURRENCY": text}))
    assert (done.stdout.split()[0], done.stderr, done.returncode) == (number, "", 0)


def test_auto_is_a_number() -> None:
    assert int(start(*SHOW, WEB_CONCURRENCY="auto").stdout.split()[0]) >= 1


def test_the_command_replaces_the_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "app.start", *SHOW],
        cwd=ROOT,
        env={"FLASK_SKIP_DOTENV": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read().split()[1] == str(process.pid)


def test_wrong_settings_are_named_in_one_sentence() -> None:
    wrong = {"WEB_CONCURRENCY": "many", "PORT": "http", "FORWARDED_ALLOW_IPS": "x", "RETORT_THREDS": "1"}
    done = start(*SHOW, **wrong)
    assert (done.stdout, done.returncode) == ("", 1)
    [line] = done.stderr.splitlines()
    assert line.startswith("retort: the settings are not usable: ")
    assert all(name in line for name in wrong)


def test_a_missing_command_is_reported() -> None:
    assert "usage: python -m app.start COMMAND" in start().stderr
    assert "retort: no-such-command cannot be run: No such file" in start("no-such-command", PATH="/bin").stderr


def test_running_wsgi_py_tells_how_to_start() -> None:
    done = subprocess.run([sys.executable, "wsgi.py"], cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    lines = (ROOT / "Procfile").read_text("utf-8").splitlines()
    [web] = [line.removeprefix("web: ") for line in lines if line.startswith("web: ")]
    assert done.returncode == 2
    assert "`make serve`" in done.stderr
    assert web in done.stderr
    assert len(done.stderr.splitlines()) == 2
