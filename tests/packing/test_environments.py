"""The Python that packs an artifact, and the error if no environment can be made."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from app.errors import PackingRefused
from app.packing import environments
from app.packing.environments import interpreter_for
from app.packing.stages import NoProgress
from app.packing.trained_with import Training

OLDER = Training({"scikit-learn": "==1.4.2"}, "the artifact")
HERE = Training({"scikit-learn": f"=={version('scikit-learn')}"}, "the artifact")


class KeptProgress(NoProgress):
    """Keep the lines of progress."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache folder, and make the package index unreachable."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setattr(environments, "_uv", lambda: None)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "retort" / "environments"


def test_an_artifact_trained_with_the_installed_libraries_is_packed_by_them() -> None:
    assert interpreter_for(HERE, [], None, NoProgress()) is None
    assert interpreter_for(Training(), [], None, NoProgress()) is None


@pytest.mark.slow
def test_without_an_index_the_error_names_the_two_commands(cache: Path) -> None:
    progress = KeptProgress()
    with pytest.raises(PackingRefused) as caught:
        interpreter_for(OLDER, ["model.joblib"], None, progress)
    message = caught.value.detail
    here = version("scikit-learn")
    assert message.startswith(f"it was trained with scikit-learn 1.4.2 (says the artifact), {here} of scikit-learn is ")
    assert "the package index cannot be reached" in message
    assert "-m venv train` and `train/bin/pip install --only-binary :all: joblib" in message
    assert "scikit-learn==1.4.2" in message
    assert message.endswith("--python train/bin/python")
    assert "\n" not in message
    assert progress.lines[0].startswith("making an environment with scikit-learn 1.4.2, once, in ")
    assert [path.name for path in cache.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement scikit-learn==0.20 (from versions: 1.1.3)",
            "there is no wheel of scikit-learn==0.20 for Python",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: Could not find a version that satisfies the requirement joblib (from versions: none)",
            "the package index cannot be reached",
        ),
        (
            "error: No solution found when resolving dependencies\n"
            "cause: Because scikit-learn==0.20 has no usable wheels and you require it, we can conclude",
            "there is no wheel of scikit-learn==0.20 for Python",
        ),
        ("ERROR: Cannot install a and b\nERROR: ResolutionImpossible: see", "ResolutionImpossible: see"),
        (
            "error: Request failed\ncause: error sending request for url (http://x)",
            "the package index cannot be reached",
        ),
        ("No space left on device", "No space left on device"),
        ("", "it ended without a message"),
    ],
)
def test_the_reason_of_a_failed_installation_is_one_line(message: str, why: str) -> None:
    assert environments._reason(message.splitlines()).startswith(why)


@pytest.mark.slow
def test_a_complete_environment_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], progress: NoProgress) -> None:
        ran.append(command)
        if "venv" in command:
            made = Path(command[-1], "bin", "python")
            made.parent.mkdir(parents=True)
            made.touch()

    monkeypatch.setattr(environments, "_run", run)
    first = interpreter_for(OLDER, ["model.joblib"], None, NoProgress())
    again = interpreter_for(OLDER, ["model.joblib"], None, NoProgress())
    assert first is not None
    assert (again, len(ran)) == (first, 2)
    (Path(first.python).parents[1] / environments.COMPLETE).unlink()  # an interrupted installation leaves this
    assert interpreter_for(OLDER, ["model.joblib"], None, NoProgress()) == first
    assert len(ran) == 4
    assert interpreter_for(OLDER, ["model.skops"], None, NoProgress()) != first
    assert "--only-binary" in ran[1]


@pytest.mark.slow
def test_newer_libraries_are_installed_if_those_of_its_time_are_missing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], progress: NoProgress) -> None:
        if "venv" in command:
            Path(command[-1], "bin").mkdir(parents=True)
        else:
            asked.append(command)
            if "pandas<3" in command:
                raise environments._InstallFailed("there is no wheel of pandas<3")

    monkeypatch.setattr(environments, "_run", run)
    assert interpreter_for(OLDER, ["model.joblib"], None, NoProgress()) is not None
    assert [[one for one in command if one.startswith(("scikit-learn", "pandas"))] for command in asked] == [
        ["pandas<3", "scikit-learn==1.4.2"],
        ["pandas", "scikit-learn==1.4.2"],
    ]


@pytest.mark.slow
def test_the_python_of_the_user_must_have_the_libraries_of_the_artifact(tmp_path: Path) -> None:
    assert interpreter_for(HERE, [], sys.executable, NoProgress()) is not None
    with pytest.raises(PackingRefused) as caught:
        interpreter_for(OLDER, [], sys.executable, NoProgress())
    assert caught.value.detail.startswith(f"--python {sys.executable} has scikit-learn {version('scikit-learn')}, and ")
    assert "trained with scikit-learn 1.4.2 (says the artifact)" in caught.value.detail


@pytest.mark.parametrize("script", [None, "#!/bin/sh\necho hello\n", "#!/bin/sh\nexit 3\n"])
def test_a_program_that_is_not_python_is_refused(tmp_path: Path, script: str | None) -> None:
    path = tmp_path / "python"
    if script is not None:
        path.write_text(script)
        path.chmod(0o755)
    with pytest.raises(PackingRefused, match="is not a Python that runs here"):
        interpreter_for(OLDER, [], str(path), NoProgress())


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_text('#!/bin/sh\necho \'{"python": "3.9.18", "scikit-learn": "1.4.2"}\'\n')
    path.chmod(0o755)
    with pytest.raises(PackingRefused, match=r"is Python 3\.9\.18; packing needs 3\.11 or newer"):
        interpreter_for(OLDER, [], str(path), NoProgress())


def test_uv_installs_if_it_is_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_uv", lambda: "/usr/bin/uv")
    assert environments._installer("train/bin/python")[:5] == [
        "/usr/bin/uv",
        "pip",
        "install",
        "--python",
        "train/bin/python",
    ]
    monkeypatch.setattr(environments, "_uv", lambda: None)
    assert environments._installer("train/bin/python")[:5] == [
        sys.executable,
        "-m",
        "pip",
        "--python",
        "train/bin/python",
    ]
