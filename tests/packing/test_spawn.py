"""Packing in its own process: every failure becomes a result or one sentence, and leaves no file.

Starting a process takes seconds, so all processes start at once, and the tests look at one each.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from sklearn.linear_model import LogisticRegression

from app.errors import PackingRefused
from app.packing import __main__ as process
from app.packing import spawn
from app.packing.spawn import CheckRequest, Interpreter, PackRequest, Result, run
from app.storage.repository import Repository
from tests.packing.artifacts import AbortsWhenStaged, aborts, hangs, saved

TIMEOUT_S = 120.0
SHORT_TIMEOUT_S = 0.5


class Started:
    """Requests that run at once, each in its own thread and process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository(folder / "models")
        self.crashed = Repository(folder / "crashed")
        self.temporary = folder / "tmp"
        model = LogisticRegression().fit([[0.0, 1.0], [4.0, 5.0]], [0, 1])
        good = saved(model, folder / "good.joblib")
        late = saved(
            AbortsWhenStaged(str(self.crashed.root)).fit([[0.0], [1.0]], ["rose", "aster"]), folder / "late.joblib"
        )
        self.requests: dict[str, tuple[Path, Repository, float]] = {
            "first": (good, self.repository, TIMEOUT_S),
            "second": (good, self.repository, TIMEOUT_S),
            "crash": (aborts(folder / "aborts.pkl"), self.crashed, TIMEOUT_S),
            "late crash": (late, self.crashed, TIMEOUT_S),
            "hang": (hangs(folder / "hangs.pkl"), self.crashed, SHORT_TIMEOUT_S),
        }
        self.ended: dict[str, Result | BaseException] = {}

    def finish(self) -> None:
        with ThreadPoolExecutor(len(self.requests)) as pool:
            under_way: dict[str, Future[Result]] = {
                name: pool.submit(run, PackRequest(str(artifact), "flowers", str(repository.root)), timeout_s)
                for name, (artifact, repository, timeout_s) in self.requests.items()
            }
        self.ended = {name: one.exception() or one.result() for name, one in under_way.items()}

    def refusal(self, name: str) -> str:
        error = self.ended[name]
        assert isinstance(error, PackingRefused)
        return error.detail


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Started:
    started = Started(tmp_path_factory.mktemp("spawned"))
    started.temporary.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(started.temporary)
    try:
        started.finish()
    finally:
        tempfile.tempdir = before
    return started


@pytest.mark.slow
def test_two_packings_at_once_make_two_versions(started: Started) -> None:
    results = [started.ended["first"], started.ended["second"]]
    assert all(isinstance(result, Result) for result in results)
    assert sorted(result.version or 0 for result in results if isinstance(result, Result)) == [1, 2]
    assert started.repository.versions("flowers") == [1, 2]
    assert listed(started.repository.root) == ["flowers", "history.json"]
    assert all("classifier: LogisticRegression" in result.remarks for result in results if isinstance(result, Result))


@pytest.mark.slow
def test_a_pickle_that_crashes_is_refused_in_one_sentence(started: Started) -> None:
    assert started.refusal("crash") == "reading and running it ended the process (SIGABRT)"


@pytest.mark.slow
def test_a_pickle_that_hangs_is_refused_in_one_sentence(started: Started) -> None:
    assert started.refusal("hang") == "reading and running it took longer than 0.5 seconds"


@pytest.mark.slow
def test_a_crash_while_a_version_is_put_together_is_refused_in_one_sentence(started: Started) -> None:
    assert started.refusal("late crash") == "reading and running it ended the process (SIGABRT)"


@pytest.mark.slow
def test_crashes_and_hangs_leave_no_files(started: Started) -> None:
    assert not started.crashed.root.exists() or listed(started.crashed.root) == []
    assert listed(started.temporary) == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("verb", "message"),
    [("pack", "models: File exists"), ("check", "there is no model 'flowers'; the repository is empty")],
)
def test_a_refusal_is_a_result_and_not_a_crash(tmp_path: Path, verb: str, message: str) -> None:
    models = tmp_path / "models"
    models.write_bytes(b"a file where the repository should be")
    artifact = saved(LogisticRegression().fit([[0.0], [4.0]], [0, 1]), tmp_path / "good.joblib")
    requests = {
        "pack": PackRequest(str(artifact), "flowers", str(models)),
        "check": CheckRequest("flowers", 1, str(models)),
    }
    answer = tmp_path / "result.json"
    process.main(verb, msgspec.json.encode(requests[verb]).decode(), str(answer))
    result = msgspec.json.decode(answer.read_bytes(), type=Result)
    assert message in (result.refused or "")
    assert listed(tmp_path) == ["good.joblib", "models", "result.json"]


def test_another_python_gets_the_package_and_the_folders_of_the_users_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/my/modules")
    there = Interpreter("train/bin/python", folders=("/lent",))
    environ = spawn._environ(tmp_path, there)
    assert environ["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), "/lent", str(Path.cwd()), "/my/modules"]
    assert [path.name for path in tmp_path.iterdir()] == ["app"]
    assert (tmp_path / "app" / "packing" / "spawn.py").is_file()
    for name, value in environ.items():  # the process that packs asks the Python that serves
        monkeypatch.setenv(name, value)
    back = tmp_path / "back"
    back.mkdir()
    inner = spawn._environ(back, Interpreter("serving/bin/python"))
    assert inner["PYTHONPATH"].split(os.pathsep) == [str(back), str(Path.cwd()), "/my/modules"]
