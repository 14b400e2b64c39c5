"""The number of CPU cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
V1_CONTROLLERS = ("cpu,cpuacct", "cpu")


def allowed_cores(membership: Path = MEMBERSHIP, cgroups: Path = CGROUPS) -> int:
    """Count the whole cores that the CPU affinity and the quota of the cgroup allow; at least 1.

    `membership` lists the cgroups of this process, one a line (cgroups(7)). Their file systems are mounted in
    `cgroups`.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([affinity, *_quotas(membership, cgroups)])))


def _quotas(membership: Path, cgroups: Path) -> Iterator[float]:
    """Yield the quota of the process's cgroup and of each one above it, in cores.

    A container may see its own cgroup as the root of the mount, although `membership` names a path on the host. Then
    the folders of that path are missing, and the root has the quota.
    """
    for line in (_text(membership) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts, read = [cgroups], _quota_v2
        elif "cpu" in controllers.split(","):
            mounts, read = [cgroups / name for name in V1_CONTROLLERS], _quota_v1
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for folder in (inside, *inside.parents):
                quota = read(mount / folder)
                if quota is not None:
                    yield quota


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return None if quota is None or period is None or int(quota) < 0 else int(quota) / int(period)


def _text(path: Path) -> str | None:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return None
