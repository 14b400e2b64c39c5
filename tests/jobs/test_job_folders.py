"""The folders of jobs and their locks. Each lock here has its own descriptor, as in another process."""

from __future__ import annotations

from pathlib import Path

from app.jobs.job_folders import JobFolders


def test_a_folder_is_made_measured_and_removed(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path / "jobs")
    assert folders.ids() == []
    (folders.make("a") / "input.csv").write_bytes(b"12345")
    (folders.of("a") / "work").mkdir()
    (folders.of("a") / "work" / "output").write_bytes(b"678")
    assert folders.ids() == ["a"]
    assert folders.size_bytes("a") == 8
    folders.remove("a")
    folders.remove("a")
    assert (folders.ids(), folders.size_bytes("a")) == ([], 0)


def test_one_at_a_time_holds_the_lock_of_a_folder(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path)
    with folders.locked("a") as is_mine:
        assert not is_mine
    folders.make("a")
    with folders.locked("a") as first, folders.locked("a") as second:
        assert (first, second) == (True, False)
    with folders.locked("a") as third:
        assert third


def test_the_server_sees_whether_a_worker_runs(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path / "jobs")
    assert not folders.has_worker()
    with folders.working():
        assert folders.has_worker()
        with folders.working():
            assert folders.has_worker()
        assert folders.has_worker()
    assert not folders.has_worker()
