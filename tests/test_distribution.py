"""The requirements, Procfile, Makefile and .ci/run agree with setup.cfg."""

from __future__ import annotations

import configparser
import functools
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(
    r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*)==(?P<version>[0-9][0-9a-z.]*)( ; .+)?(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)"
)
GRAPH_EXTRAS = ("image", "numbers", "own", "zstd")
"""Requirements of every installation: the tier of requirements-serve.txt."""
OPERATING_EXTRAS = (*GRAPH_EXTRAS, "database", "jobs", "oidc", "otel", "postgres", "redis")
"""Requirements of requirements-operate.txt."""
SERVING_EXTRAS = (*GRAPH_EXTRAS, "database", "jobs", "packing")
OPTIONAL_EXTRAS = (
    "dask",
    "http",
    "objects",
    "oidc",
    "otel",
    "parquet",
    "postgres",
    "redis",
    "skops",
    "sql",
)
MOST_PACKAGES = {"requirements-serve.txt": 35, "requirements-operate.txt": 70, "requirements.txt": 45}

CFG = configparser.ConfigParser(interpolation=None)
CFG.read(ROOT / "setup.cfg", encoding="utf-8")


def declared(*extras: str) -> list[Requirement]:
    """Return the requirements of install_requires, or of these extras, for this machine."""
    sections = [CFG["options.extras_require"][extra] for extra in extras] or [CFG["options"]["install_requires"]]
    found = [
        Requirement(line) for section in sections for line in section.split("\n") if line.strip() and line[0] != "#"
    ]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def lines(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def locked(name: str) -> list[re.Match[str]]:
    """Return each requirement of a file that `make lock` wrote, on one line."""
    text = "\n".join(lines(name)).replace(" \\\n    --hash", " --hash")
    found = [(PIN.fullmatch(line), line) for line in text.splitlines()]
    assert [line for match, line in found if match is None] == []
    return [match for match, _ in found if match]


def pins(name: str) -> dict[str, str]:
    """Return the pinned version of each package that this machine installs."""
    parsed = [Requirement(match[0].partition(" --hash")[0]) for match in locked(name)]
    return {each.name: str(each.specifier)[2:] for each in parsed if each.marker is None or each.marker.evaluate()}


def closure(requirements: list[Requirement]) -> set[str]:
    """Return the names of all packages that these need, as the installed distributions declare it."""
    found: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found.add(name)
        for needed in map(Requirement, importlib.metadata.requires(name) or ()):
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return found


GRAPHS = pins("requirements-serve.txt")
OPERATING = pins("requirements-operate.txt")
SERVING = pins("requirements.txt")
TESTING = pins("requirements-dev.txt")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MOST_PACKAGES, "requirements-dev.txt"])
def test_every_requirement_is_an_exact_pin_with_its_hashes(name: str) -> None:
    found = locked(name)
    names = [match["name"] for match in found]
    assert names == sorted(names)
    assert len({match[0] for match in found}) == len(found), "a package has two pins only for different Pythons"
    if not declared("own"):  # the user's own requirements are the user's
        assert len(set(names)) <= MOST_PACKAGES.get(name, 200)


def test_each_tier_has_all_of_the_smaller_one_at_the_same_versions() -> None:
    assert GRAPHS.items() <= SERVING.items() <= TESTING.items()
    assert GRAPHS.items() <= OPERATING.items() <= TESTING.items()


@pytest.mark.parametrize("requirement", [*declared(), *declared(*SERVING_EXTRAS)], ids=str)
def test_serving_requirements_are_pinned_as_setup_cfg_allows(requirement: Requirement) -> None:
    assert requirement.specifier.contains(SERVING[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("requirement", declared("dev", *OPTIONAL_EXTRAS), ids=str)
def test_development_requirements_are_pinned_as_setup_cfg_allows(requirement: Requirement) -> None:
    assert requirement.specifier.contains(TESTING[canonicalize_name(requirement.name)])


def test_every_extra_is_pinned() -> None:
    assert set(CFG["options.extras_require"]) == {*SERVING_EXTRAS, *OPTIONAL_EXTRAS, "dev"}


@pytest.mark.slow
@pytest.mark.pinned
def test_the_pins_are_the_whole_closure_and_nothing_else() -> None:
    assert closure([*declared(), *declared(*GRAPH_EXTRAS)]) == GRAPHS.keys()
    assert closure([*declared(), *declared(*SERVING_EXTRAS)]) == SERVING.keys()
    assert closure([*declared(), *declared(*OPERATING_EXTRAS)]) == OPERATING.keys()
    assert closure([*declared(), *declared(*SERVING_EXTRAS, *OPTIONAL_EXTRAS, "dev")]) == TESTING.keys()


@pytest.mark.pinned
def test_the_tests_run_on_what_is_pinned() -> None:
    assert {name: importlib.metadata.version(name) for name in TESTING} == TESTING


def test_serving_gets_no_test_tools() -> None:
    assert SERVING.keys() & {canonicalize_name(each.name) for each in declared("dev")} <= {"packaging"}


def test_python_is_one_that_is_declared() -> None:
    running = ".".join(map(str, sys.version_info[:3]))
    assert SpecifierSet(CFG["options"]["python_requires"]).contains(running)


def test_the_licence_is_stated_and_distributed() -> None:
    assert CFG["metadata"]["license_expression"] == "BSD-3-Clause"
    [name] = CFG["metadata"]["license_files"].split()
    assert (ROOT / name).read_text("utf-8").startswith("BSD 3-Clause License\n\nCopyright 2026 Retort contributors")


def test_every_file_of_the_package_is_distributed() -> None:
    globs = {
        package: [glob for glob in section.split("\n") if glob]
        for package, section in CFG["options.package_data"].items()
    }
    left_out = []
    for path in sorted((ROOT / "app").rglob("*")):
        if path.is_dir() or path.suffix in {".py", ".pyc"} or path.name.startswith("."):
            continue
        matches = (
            fnmatch(str(path.relative_to(folder)), glob)
            for package, patterns in globs.items()
            if path.is_relative_to(folder := ROOT / package.replace(".", "/"))
            for glob in patterns
        )
        if not any(matches):
            left_out.append(str(path.relative_to(ROOT)))
    assert left_out == []


def test_procfile_serves_the_application_with_the_settings_of_gunicorn_conf() -> None:
    declared_processes = dict(line.split(": ", 1) for line in lines("Procfile"))
    served = ["gunicorn", "--config", "python:app.gunicorn_conf", "wsgi:app"]
    assert shlex.split(declared_processes["web"]) == ["python", "-m", "app.start", *served]


def test_make_serve_runs_the_line_of_procfile() -> None:
    recipe = make("--dry-run", "serve")
    assert "Procfile" in recipe
    assert "RETORT_ENV" in recipe
    assert "gunicorn" not in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_make_test_runs_every_check_and_pytest_last() -> None:
    steps = [line for line in make("--dry-run", "test").splitlines() if line.strip()]
    checks = ["ruff format --check", "ruff check", "mypy --strict app", "lint-imports", "pytest"]
    found = [next(place for place, line in enumerate(steps) if check in line) for check in checks]
    assert found == sorted(found)
    assert "pytest" in steps[-1]


@pytest.mark.parametrize("target", ["serve", "test", "install", "format", "unit", "coverage", "lowest"])
def test_make_help_lists(target: str) -> None:
    assert f"make {target}\t" in make("help")


def test_ci_runs_make_test_and_skips_nothing() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = lines(".ci/run")
    assert commands[-1] == "exec make test"
    assert "export REQUIRE_ALL_TESTS=1" in commands


@functools.cache
def make(*arguments: str) -> str:
    """Return the output of make, without the variables of the make that may have started these tests."""
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
    ran = subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return ran.stdout


def test_no_message_names_a_package_that_no_index_has() -> None:
    ours = CFG["metadata"]["name"]  # a project begins as a clone: no package has this name
    assert [path.name for path in (ROOT / "app").rglob("*.py") if ours in path.read_text(encoding="utf-8")] == []
