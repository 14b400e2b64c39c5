"""The number of cores that a process may use, read from folders like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.settings.cores import allowed_cores

V2 = "0::{path}\n"
V1 = "5:cpu,cpuacct:{path}\n4:memory:/elsewhere\n1:name=systemd:/\n0::/\n"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def cores(folder: Path, membership: str, files: dict[str, str]) -> int:
    (folder / "membership").write_text(membership, "ascii")
    for name, content in files.items():
        file = folder / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n", "ascii")
    return allowed_cores(folder / "membership", folder / "cgroup")


@pytest.mark.parametrize(
    ("path", "files", "expected"),
    [
        ("/", {"cpu.max": "200000 100000"}, 2),
        ("/", {"cpu.max": "max 100000"}, 8),
        ("/", {"cpu.max": "250000 100000"}, 2),
        ("/", {"cpu.max": "50000 100000"}, 1),
        ("/", {"cpu.max": "2000000 100000"}, 8),
        ("/", {}, 8),
        ("/pod/main", {"pod/main/cpu.max": "max 100000", "pod/cpu.max": "300000 100000"}, 3),
        ("/pod/main", {"pod/main/cpu.max": "100000 100000", "pod/cpu.max": "300000 100000"}, 1),
        ("/docker/0123", {"cpu.max": "400000 100000"}, 4),
    ],
)
def test_the_quota_of_version_2(tmp_path: Path, path: str, files: dict[str, str], expected: int) -> None:
    assert cores(tmp_path, V2.format(path=path), files) == expected


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(
    ("path", "folder", "quota", "expected"),
    [("/", "", "200000", 2), ("/docker/0123", "", "200000", 2), ("/a/b", "a", "100000", 1), ("/", "", "-1", 8)],
)
def test_the_quota_of_version_1(tmp_path: Path, mount: str, path: str, folder: str, quota: str, expected: int) -> None:
    files = {f"{mount}/{folder}/cpu.cfs_quota_us": quota, f"{mount}/{folder}/cpu.cfs_period_us": "100000"}
    assert cores(tmp_path, V1.format(path=path), files) == expected


def test_without_cgroups_the_affinity_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert allowed_cores(tmp_path / "none", tmp_path) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert allowed_cores(tmp_path / "none", tmp_path) == 1
