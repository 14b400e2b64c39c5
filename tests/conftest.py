"""Rules for all tests, checked after each, and the handling of tests whose program is missing."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from _pytest.runner import runtestprotocol
from xdist.scheduler import LoadScopeScheduling

import app  # noqa: F401 - before a test imports ONNX Runtime, which then sends no usage data
from tests import parts
from tests.end_to_end.process import WORKER
from tests.faults import plugin as faults

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from werkzeug.routing import Rule

    Build = Callable[..., tuple[str, str]]

# The machine's own values of these variables would change results. A test that needs one sets it.
SETTINGS_PREFIXES = ("RETORT_", "FLASK_", "GUNICORN_", "AIP_", "OTEL_", "SAGEMAKER_")
SETTINGS_NAMES = frozenset({"HOST", "PORT", "WEB_CONCURRENCY", "DATABASE_URL", "REDIS_URL", "LOG_LEVEL"})

# Threads that may outlive a test: the beginning of the name, and the reason.
LASTING_THREADS = {
    "ExecutorManagerThread": "joblib keeps its worker processes for the next fit with n_jobs > 1",
    "QueueFeederThread": "feeds those worker processes",
}
GRACE_S = 2.0

REPORTED_PHASE_S = 0.005
"""Shorter set-up and tear-down is reported only if it fails. `--durations` leaves it out too."""

# Environment variables that may change during a test: the beginning of the name, and the reason.
LASTING_VARIABLES = {
    b"PYTEST_CURRENT_TEST": "pytest's own",
    b"KMP_": "scikit-learn and joblib set up OpenMP when they are first imported",
}

# In `.ci/run` and wherever CI=true, a skipped test fails.
NO_SKIPS = os.environ.get("REQUIRE_ALL_TESTS") == "1" or os.environ.get("CI") == "true"

# The time of one example depends more on the machine than on the code. Where a skipped test fails, the examples are the
# same in every run.
hypothesis.settings.register_profile("house", deadline=None, derandomize=NO_SKIPS)
hypothesis.settings.register_profile("brief", hypothesis.settings.get_profile("house"), max_examples=10)
hypothesis.settings.load_profile("house")

TESTS_WITHOUT_PROGRAM = pytest.StashKey[dict[str, list[str]]]()
TESTS_LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()


HERE = Path(__file__).parent
OWN = HERE / "own"
"""Tests of the user's own code. The rules about warnings, leaks and skips do not apply to them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parts.add_option(parser)
    faults.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    part = parts.part_of(config)
    chosen = (part.expression if part else "", faults.configure(config), config.option.markexpr)
    config.option.markexpr = " and ".join(f"({one})" for one in chosen if one)
    if part is parts.PARTS["unit"]:
        hypothesis.settings.load_profile("brief")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import modules that will not run."""
    part = parts.part_of(config)
    return True if part is not None and part.has_none_in(collection_path) else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return FileScheduling(config, log)


class FileScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Run the tests of a file, or of a folder that shares a fixture, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return parts.scope_of(nodeid)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with a reason, the tests whose `needs_program("name")` is not installed.

    Leave out, in `.ci/run` too, tests whose `needs_document(path)` is missing (a clone does not have it); and, if the
    servers run another worker class (`RETORT_WORKER=gthread`), tests that this class cannot pass.
    """
    parts.mark_by_place(items)
    parts.check_places(items)
    parts.begin_with_the_longest(items)
    leave_out(config, items)
    if parts.runs_a_sample(config):
        chosen = set(map(id, parts.sample([test for test in items if not is_own(test.path)])))
        beyond = [test for test in items if id(test) not in chosen and not is_own(test.path)]
        config.hook.pytest_deselected(items=beyond)
        items[:] = [test for test in items if id(test) in chosen or is_own(test.path)]
    without = config.stash.setdefault(TESTS_WITHOUT_PROGRAM, {})
    for test in items:
        if is_own(test.path):
            test.add_marker(pytest.mark.filterwarnings("default"))
            test.fixturenames[:] = [name for name in test.fixturenames if name != nothing_left_behind.__name__]
        programs = {program for mark in test.iter_markers("needs_program") for program in mark.args}
        for program in sorted(program for program in programs if shutil.which(program) is None):
            without.setdefault(program, []).append(test.nodeid)
            test.add_marker(pytest.mark.skip(reason=f"{program} is not installed"))


@cache
def is_own(path: Path) -> bool:
    return path.is_relative_to(OWN)


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that cannot run here. The closing lines name them and the reason."""
    out = config.stash.setdefault(TESTS_LEFT_OUT, {})
    left_out = []
    for test in items:
        if reason := next(reasons_against(test), None):
            out.setdefault(reason, []).append(test.nodeid)
            left_out.append(test)
    gone = set(map(id, left_out))
    items[:] = [test for test in items if id(test) not in gone]
    config.hook.pytest_deselected(items=left_out)


def reasons_against(test: pytest.Item) -> Iterator[str]:
    """Yield the reasons to leave a test out here."""
    if WORKER != "retort":
        yield from (f"{WORKER}: {reason}" for mark in test.iter_markers("own_worker") for reason in mark.args)
    documents = [path for mark in test.iter_markers("needs_document") for path in mark.args]
    yield from (f"{path.name} is not there" for path in documents if not path.is_file())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test as pytest does, but report only phases that took time or failed.

    A process of pytest-xdist sends each report to the first process, and that a test begins and ends. For thousands of
    quick tests that takes as long as the tests.
    """
    is_alone = not hasattr(item.config, "workerinput")
    if is_alone:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed or report.duration >= REPORTED_PHASE_S:
            item.ihook.pytest_runtest_logreport(report=report)
    if is_alone:
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Report a skipped test as failed if no test may be skipped."""
    report = yield
    return failed_if_skipped(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Report a skipped module as failed if no test may be skipped."""
    with warnings.catch_warnings():
        if is_own(collector.path):
            warnings.simplefilter("default")
        report = yield
    return failed_if_skipped(report)


def failed_if_skipped(report):
    if not (NO_SKIPS and report.skipped) or hasattr(report, "wasxfail"):
        return report
    if not is_own(HERE.parent / report.nodeid.partition("::")[0]):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: no test may be skipped here. {reason}"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the tests that this process of pytest-xdist left out or skipped to the first process."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left out"] = session.config.stash.get(TESTS_LEFT_OUT, {})
        output["without program"] = session.config.stash.get(TESTS_WITHOUT_PROGRAM, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receive the tests that a process of pytest-xdist left out or skipped: each process has collected all tests."""
    output = getattr(node, "workeroutput", {})
    node.config.stash.setdefault(TESTS_LEFT_OUT, {}).update(output.get("left out", {}))
    node.config.stash.setdefault(TESTS_WITHOUT_PROGRAM, {}).update(output.get("without program", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the missing programs, and the tests that need them, above pytest's closing line."""
    if out := config.stash.get(TESTS_LEFT_OUT, {}):
        terminalreporter.section("left out")
        for reason, tests in sorted(out.items()):
            terminalreporter.line(f"{reason}: {', '.join(sorted({test.split('[')[0] for test in tests}))}")
    reported = {report.nodeid for report in terminalreporter.stats.get("skipped", ())}
    without = config.stash.get(TESTS_WITHOUT_PROGRAM, {})
    skipped = {program: sorted(reported.intersection(tests)) for program, tests in without.items()}
    if not NO_SKIPS and any(skipped.values()):
        terminalreporter.section("skipped because a program is missing")
        for program, tests in sorted((program, tests) for program, tests in skipped.items() if tests):
            terminalreporter.line(f"{program} is not installed: {', '.join(tests)}")


@pytest.fixture(scope="session", autouse=True)
def the_process() -> Iterator[None]:
    """Isolate this process, which packs and serves, from the machine's settings and keys, and avoid its delays.

    One fixture does all of this, because each automatic fixture takes time in each test.
    """
    from werkzeug.routing import Rule

    from app.packing import timing
    from app.storage import keys
    from app.telemetry import metrics
    from tests.packing.moments import A_MOMENT

    with pytest.MonkeyPatch.context() as patch:
        for name, value in A_MOMENT.items():  # no test compares times of models here
            patch.setattr(timing, name, value)
        patch.setattr(os, "fsync", lambda descriptor: None)  # no file has to survive a loss of power
        patch.setattr(metrics, "memory_bytes", cache(metrics.memory_bytes))  # of all imports of tests: 40 ms
        patch.setattr(Rule, "_compile_builder", compiled_when_used(Rule._compile_builder))  # 35 ms for each application
        patch.setattr(keys, "FILE_NAME", "keys-of-tests.db")  # a user may have keys in `instance/`
        for name in list(os.environ):
            if name in SETTINGS_NAMES or name.startswith(SETTINGS_PREFIXES):
                patch.delenv(name)
        patch.setenv("FLASK_SKIP_DOTENV", "1")  # the machine may have a .env beside wsgi.py
        yield


def compiled_when_used(compiled: Callable[..., Build]) -> Callable[..., Build]:
    """Compile the URL builder of a rule when it builds its first URL: most rules never build one."""

    def later(rule: Rule, append_unknown: bool = True) -> Build:
        compiled_once = cache(lambda: compiled(rule, append_unknown))

        def build(*arguments: Any, **values: Any) -> tuple[str, str]:
            return compiled_once()(*arguments, **values)

        return build

    return later


@pytest.fixture(autouse=True)
def nothing_left_behind(the_process: None) -> Iterator[None]:
    """Check after every test that it left no thread and no socket, and changed no environment variable.

    Threads and sockets of fixtures with a wider scope (a server of the whole module) existed before, and are ignored.
    """
    threads, sockets, environment = set(threading.enumerate()), open_sockets(), environment_now()
    yield
    left = [f"thread {thread.name!r}" for thread in threads_left(threads)]
    if open_sockets() - sockets:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()  # a forgotten socket is closed only here, and warns about it
        left += [str(warning.message) for warning in caught]
        left += [f"socket {descriptor}" for descriptor, _ in sorted(sockets_left(sockets))]
    if (now := environment_now()) != environment:
        changed = [name for name in sorted(now | environment) if now.get(name) != environment.get(name)]
        left += [f"environment variable {os.fsdecode(name)}" for name in changed]
    if left:
        pytest.fail(f"the test left behind: {', '.join(left)}", pytrace=False)


def threads_left(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return new threads that still run after a short grace."""
    deadline_s = time.monotonic() + GRACE_S
    while (left := new_threads(before)) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return left


def new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread not in before and not thread.name.startswith(tuple(LASTING_THREADS))
    ]


def sockets_left(before: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return new sockets that are still open after a short grace. A server in this process closes a browser's socket
    soon after the browser does."""
    deadline_s = time.monotonic() + GRACE_S
    while (left := open_sockets() - before) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return left


def open_sockets() -> set[tuple[int, int]]:
    """Return the file descriptor and the inode of each socket of this process."""
    sockets = set()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - twice for every test: no object for each name
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor of this listing
            continue
        if stat.S_ISSOCK(status.st_mode):
            sockets.add((int(name), status.st_ino))
    return sockets


def environment_now() -> dict[bytes, bytes]:
    lasting = tuple(LASTING_VARIABLES)
    return {name: value for name, value in os.environb.items() if not name.startswith(lasting)}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect garbage rarely: objects of imports are not a test's leak, and most tests make no cycles."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(100_000, 20, 100)
        gc.enable()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield one browser for the tests of a module."""
    from tests.browser.chromium import launched

    with launched() as browser:
        yield browser
