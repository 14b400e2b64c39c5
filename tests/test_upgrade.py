"""`make upgrade` merges a release of Retort into a user's repository, between two commits of a small clone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.commands import done, run
from tests.end_to_end.process import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.needs_program("git", "make")]

COPIED = ("Makefile", ".ci/upgrade", "wsgi.py", "setup.cfg", "requirements.txt", "docs/licences.md", "CHANGELOG.md")
OLD = {"app/__init__.py": '__version__ = "0.1.0"\n', "app/core.py": "old\n", "models/penguins/1/manifest.json": "old\n"}
NEW = {
    "app/__init__.py": '__version__ = "0.2.0"\n',
    "app/core.py": "new\n",
    "models/penguins/1/manifest.json": "new\n",
    "models/more/1/manifest.json": "new\n",
    "tests/own/test_of_retort.py": "new\n",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def commit(folder: Path, message: str, files: dict[str, str]) -> str:
    write(folder, files)
    done(folder, "git", "add", "--all")
    done(folder, "git", "commit", "--quiet", "--message", message)
    return done(folder, "git", "rev-parse", "HEAD").strip()


@pytest.fixture
def retort(tmp_path: Path) -> Path:
    """Return the repository of Retort, with its first release."""
    folder = tmp_path / "retort"
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    done(folder, "git", "init", "--quiet", "--initial-branch", "main")
    commit(folder, "Begin", OLD)
    done(folder, "git", "tag", "-a", "v0.1.0", "-m", "0.1.0")
    return folder


@pytest.fixture
def mine(retort: Path) -> Path:
    """Return a user's clone, with its own module, test and model, and without the example model."""
    folder = retort.parent / "mine"
    done(retort.parent, "git", "clone", "--quiet", "--origin", "upstream", str(retort), str(folder))
    done(folder, "git", "rm", "--quiet", "-r", "models/penguins")
    own = {"my_steps.py": "mine\n", "tests/own/test_steps.py": "mine\n", "models/wine/1/manifest.json": "mine\n"}
    commit(folder, "Serve wine", own)
    return folder


@pytest.fixture
def release(retort: Path) -> str:
    """Make the second release of Retort, and return its commit."""
    made = commit(retort, "Release", NEW)
    done(retort, "git", "tag", "-a", "v0.2.0", "-m", "0.2.0")
    done(retort, "git", "tag", "-a", "v0.10.0rc1", "-m", "a candidate", "v0.1.0")
    return made


def files_of(folder: Path) -> dict[str, str]:
    names = done(folder, "git", "ls-files", "app", "models", "tests", "my_steps.py").splitlines()
    return {name: (folder / name).read_text() for name in names}


UPGRADED = {
    "app/__init__.py": NEW["app/__init__.py"],
    "app/core.py": "new\n",
    "models/wine/1/manifest.json": "mine\n",
    "my_steps.py": "mine\n",
    "tests/own/test_steps.py": "mine\n",
}


def test_the_newest_release_is_merged_and_files_of_the_user_stay(mine: Path, release: str) -> None:
    before = done(mine, "git", "rev-parse", "HEAD").strip()
    told = done(mine, "make", "upgrade")
    assert told.startswith("Retort 0.1.0 is now 0.2.0 (v0.2.0).")
    assert told.endswith(f"git reset --hard {before}\n")
    assert "make lock" not in told
    assert files_of(mine) == UPGRADED
    assert done(mine, "git", "log", "-1", "--format=%s %P") == f"Merge Retort v0.2.0 {before} {release}\n"
    assert done(mine, "git", "status", "--porcelain") == ""
    assert done(mine, "git", "tag") == "v0.1.0\n"  # tags are not mixed with the user's
    assert done(mine, "make", "upgrade") == "Nothing to do: v0.2.0 is merged already (Retort 0.2.0).\n"


@pytest.mark.parametrize("target", ["main", "v0.2.0", "commit"])
def test_a_branch_a_tag_or_a_commit_can_be_named(mine: Path, release: str, target: str) -> None:
    told = done(mine, "make", "upgrade", f"TO={release if target == 'commit' else target}")
    assert told.startswith("Retort 0.1.0 is now 0.2.0")
    assert files_of(mine) == UPGRADED


def test_an_example_model_that_is_still_there_stays_as_it_is(retort: Path, release: str) -> None:
    folder = retort.parent / "kept"
    done(retort.parent, "git", "clone", "--quiet", "--origin", "upstream", str(retort), str(folder))
    done(folder, "git", "reset", "--quiet", "--hard", "v0.1.0")
    done(folder, "make", "upgrade")
    assert files_of(folder) == {**OLD, "app/__init__.py": NEW["app/__init__.py"], "app/core.py": "new\n"}


def test_the_same_lines_changed_on_both_sides_are_left_to_the_user(mine: Path, release: str) -> None:
    before = commit(mine, "Change Retort", {"app/core.py": "changed\n"})
    ended = run(mine, "make", "upgrade")
    assert ended.returncode != 0
    assert [line for line in ended.stderr.splitlines() if line.startswith("make upgrade: ")] == [
        "make upgrade: you and Retort have changed the same lines in:",
        "make upgrade: app/core.py",
        "make upgrade: edit these files, then: git add FILE, git commit. To take everything back: git merge --abort",
    ]
    done(mine, "git", "merge", "--abort")
    assert done(mine, "git", "rev-parse", "HEAD").strip() == before
    assert done(mine, "git", "status", "--porcelain") == ""
    assert (mine / "app/core.py").read_text() == "changed\n"


def test_after_the_conflict_is_resolved_the_upgrade_is_whole(mine: Path, release: str) -> None:
    commit(mine, "Change Retort", {"app/core.py": "changed\n"})
    assert run(mine, "make", "upgrade").returncode != 0
    commit(mine, "Merge Retort", {"app/core.py": "new\n"})
    assert files_of(mine) == UPGRADED


def test_locked_requirements_are_those_of_the_release_until_they_are_locked_again(mine: Path, retort: Path) -> None:
    cfg = (mine / "setup.cfg").read_text()
    commit(
        mine,
        "Need mine",
        {"setup.cfg": cfg.replace("own =\n", "own =\n    mine>=1\n"), "requirements.txt": "mine==1\n"},
    )
    commit(
        retort, "Lock", {**NEW, "requirements.txt": "flask==4\n", "setup.cfg": cfg.replace("flask>=3.1", "flask>=4")}
    )
    told = done(mine, "make", "upgrade", "TO=main")
    assert "Your requirements differ from the release's: run `make lock`, and commit.\n" in told
    assert (mine / "requirements.txt").read_text() == "flask==4\n"
    assert "    mine>=1\n" in (mine / "setup.cfg").read_text()
    assert "    flask>=4\n" in (mine / "setup.cfg").read_text()


def refusal(folder: Path, *arguments: str) -> str:
    ended = run(folder, "make", "upgrade", *arguments)
    assert ended.returncode != 0
    assert ended.stdout == ""
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("make upgrade: ")]
    return line.removeprefix("make upgrade: ")


def test_changes_that_are_not_committed_are_not_touched(mine: Path, release: str) -> None:
    write(mine, {"my_steps.py": "more\n"})
    assert refusal(mine) == "some changes are not committed; commit them first, or put them away: git stash"
    assert (mine / "my_steps.py").read_text() == "more\n"


def test_a_file_that_git_does_not_know_is_not_overwritten(mine: Path, retort: Path) -> None:
    commit(retort, "Add a module", {"app/more.py": "new\n"})
    write(mine, {"app/more.py": "mine\n"})
    assert refusal(mine, "TO=main") == "git did not begin to merge; see its message above"
    assert (mine / "app/more.py").read_text() == "mine\n"


def test_a_missing_release_or_remote_is_named(mine: Path, retort: Path) -> None:
    assert refusal(mine, "TO=v9") == "upstream has no tag, branch or commit called v9"
    assert "there is no remote called origin; name the repository" in refusal(mine, "REMOTE=origin")
    done(retort, "git", "tag", "-d", "v0.1.0")
    done(mine, "git", "update-ref", "-d", "refs/retort/v0.1.0")
    assert refusal(mine) == "upstream has no release; name a branch or a commit, as in: make upgrade TO=main"
    shutil.rmtree(retort)
    assert refusal(mine) == "the remote upstream cannot be read; see git's message above"


def test_a_repository_with_another_history_is_refused(retort: Path, release: str) -> None:
    folder = retort.parent / "copied"
    shutil.copytree(retort, folder, ignore=shutil.ignore_patterns(".git"))
    assert refusal(folder) == "this folder is not a git repository with a commit"
    done(folder, "git", "init", "--quiet")
    commit(folder, "Begin", {})
    done(folder, "git", "remote", "add", "upstream", str(retort))
    assert "have no commit in common; begin with a clone of Retort" in refusal(folder)
