"""A user's own repository: modules, models and tests beside ours."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.commands import done
from tests.end_to_end.process import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.needs_program("git", "make")]

BADLY_FORMATTED = "import os, sys\ndef double( x ):\n  l = lambda: x*2 ; return l()\n"
OWN_TEST = """
import threading, time, warnings
import pytest
from my_features import double
warnings.warn("an old library", DeprecationWarning)
ended = threading.Event()
@pytest.mark.slow
def test_double( ) :
    warnings.warn("another old library", DeprecationWarning)
    threading.Thread(target=ended.wait, args=(5,), daemon=True).start()
    assert double(2)==4
@pytest.mark.skip(reason="not today")
def test_later(): pass
"""
OWN_CONFTEST = "def pytest_configure(config): config.addinivalue_line('markers', 'slow: takes long')\n"


def copied(folder: Path) -> Path:
    """Copy the files that git tracks here, or would."""
    listed = done(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with a user's module, package, model and tests, and another default model."""
    folder = copied(tmp_path_factory.mktemp("own"))
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "my_features.py").write_text(BADLY_FORMATTED)
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").write_text(BADLY_FORMATTED)
    (folder / "wsgi.py").write_text("from app import create_app\napp = create_app( )\n")
    (folder / "notes.md").write_text("```python\nx=1\n```\n")
    shutil.rmtree(folder / "models" / "iris-two")
    (folder / "models" / "mine" / "1").mkdir(parents=True)
    (folder / "models" / "mine" / "1" / "manifest.json").write_text("{}")
    (folder / "models" / "repository.json").write_text('{"default": "mine", "aliases": {}}')
    (folder / "tests" / "own").mkdir()
    (folder / "tests" / "own" / "conftest.py").write_text(OWN_CONFTEST)
    (folder / "tests" / "own" / "test_features.py").write_text(OWN_TEST)
    return folder


def lint_steps() -> list[str]:
    """Return the commands of `make test` before the tests."""
    listed = done(ROOT, "make", "--dry-run", "--old-file=.venv/serving", "--old-file=.venv/testing", "test")
    steps = [line for line in listed.splitlines() if line.startswith(".venv/bin/")]
    assert len(steps) == 4
    return steps


@pytest.mark.parametrize("step", range(4), ids=["format", "lint", "types", "imports"])
def test_the_checks_look_at_our_files_alone(own: Path, step: int) -> None:
    done(own, "sh", "-c", lint_steps()[step], MYPY_CACHE_DIR=ROOT / ".mypy_cache")


def test_the_checks_look_at_all_of_ours() -> None:
    listed = done(ROOT, sys.executable, "-m", "ruff", "check", "--show-files", ".").splitlines()
    tracked = done(ROOT, "git", "ls-files", "*.py").splitlines()
    looked_at = {os.path.relpath(path, ROOT) for path in listed}
    assert {path for path in tracked if (ROOT / path).exists()} - looked_at == {"wsgi.py"}


def test_own_tests_run_and_may_warn_skip_and_leave_threads(own: Path) -> None:
    told = done(own, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/own", REQUIRE_ALL_TESTS=1)
    assert re.search(r"1 passed, 1 skipped, .* warnings? in ", told)


def test_our_tests_do_not_look_at_own_models(own: Path) -> None:
    tests = ["tests/wire/test_health.py", "tests/test_factory.py"]
    told = done(own, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert " passed" in told
