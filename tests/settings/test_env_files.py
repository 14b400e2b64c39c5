"""`.env` and `.flaskenv`: the server, `flask` and `pack` read the same settings from them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings.env_files import environ_with_files, read_env_files
from tests.end_to_end.process import ROOT

EXPECTED = {
    "RETORT_MAX_INSTANCES": "7",  # in .env
    "RETORT_THREADS": "5",  # in both files: .env takes precedence
    "PORT": "9000",  # in .flaskenv
    "LOG_LEVEL": "ERROR",  # in .env and in the environment, which takes precedence
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with both files, wsgi.py and no models; the current folder is below it."""
    (tmp_path / ".env").write_text("RETORT_MAX_INSTANCES=7\nexport RETORT_THREADS='5'\nLOG_LEVEL=DEBUG\nBARE\n")
    (tmp_path / ".flaskenv").write_text("PORT=9000\nRETORT_THREADS=6\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "wsgi.py", tmp_path)
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.delenv("FLASK_SKIP_DOTENV")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    return tmp_path


def test_env_overrides_flaskenv_and_the_environment_overrides_both(place: Path) -> None:
    assert read_env_files() == {**EXPECTED, "LOG_LEVEL": "DEBUG"}
    assert environ_with_files() == {**os.environ, **EXPECTED}


@pytest.mark.parametrize(("value", "read"), [("1", False), ("true", False), ("0", True), ("no", True), ("", True)])
def test_the_variable_of_flask_switches_it_off(
    place: Path, monkeypatch: pytest.MonkeyPatch, value: str, read: bool
) -> None:
    monkeypatch.setenv("FLASK_SKIP_DOTENV", value)
    assert bool(read_env_files()) is read


def test_without_files_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLASK_SKIP_DOTENV")
    assert read_env_files() == {}


def run(place: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_flask_settings_shows_what_the_server_gets(place: Path) -> None:
    shown = run(place, "flask", "settings", LOG_LEVEL="ERROR")
    assert shown.stderr == ""
    by_name = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines()}
    script = f"import os; print(*[os.environ[name] for name in {[*EXPECTED]}])"
    served = run(place, sys.executable, "-m", "app.start", sys.executable, "-c", script, LOG_LEVEL="ERROR")
    assert served.stdout.split() == list(EXPECTED.values()) == [by_name[name][0] for name in EXPECTED], served.stderr
    assert [by_name[name][-1] for name in EXPECTED] == [".env", ".env", ".env", "environment"]


@pytest.mark.parametrize("content", [b"RETORT_THREADS=many\n", b"LOG_LEVEL=\xff\n"], ids=["value", "encoding"])
def test_a_bad_file_stops_the_start_with_one_sentence(place: Path, content: bytes) -> None:
    (place / ".env").write_bytes(content)
    ended = run(place, sys.executable, "-m", "app.start", "true")
    assert ended.returncode == 1
    assert ended.stderr.startswith("retort: ")
    assert len(ended.stderr.splitlines()) == 1
