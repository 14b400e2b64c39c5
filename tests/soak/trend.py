"""Find growth: sample the resources of a process under load, and fit a line through the samples."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.server.crowds import share_of
from tests.server.served import Outcomes, core_wait_s, cpu_s, rss_bytes

PER_REQUESTS = 100_000
MEASURED_FROM = 0.5
"""Share of the run before this is warm-up."""
BEST = 0.1


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope by least squares; 0 if there is no line."""
    if len(xs) < 2:
        return 0.0
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@dataclass(frozen=True)
class Sample:
    requests: int
    at_s: float
    rss_mb: float
    descriptors: int
    threads: int
    cpu_s: float
    p99_s: float
    core_wait_s: float


class Watch:
    """Sample one process. `tick` is a callback for `closed_loop`, and discards the times that it has read."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.samples: list[Sample] = []

    def tick(self, outcomes: Outcomes, asked: int) -> None:
        p99_s = share_of(outcomes.took_s.get("200", []), 0.99)
        outcomes.took_s.clear()
        pid = self.pid
        told = (rss_bytes(pid) / 2**20, descriptors(pid), threads(pid), cpu_s(pid), p99_s, core_wait_s(pid))
        self.samples.append(Sample(asked, time.monotonic(), *told))

    @property
    def measured(self) -> list[Sample]:
        """Return the samples after the warm-up."""
        last = self.samples[-1].requests if self.samples else 0
        return [sample for sample in self.samples if sample.requests >= MEASURED_FROM * last]

    def slope(self, name: str) -> float:
        """Return the slope of `rss_mb`, `descriptors` or `threads` for each 100,000 requests."""
        measured = self.measured
        xs = [sample.requests / PER_REQUESTS for sample in measured]
        return slope(xs, [getattr(sample, name) for sample in measured])

    def growth(self, name: str) -> float:
        """Return the rise of the fitted line over its samples."""
        measured = self.measured
        return self.slope(name) * (measured[-1].requests - measured[0].requests) / PER_REQUESTS if measured else 0.0

    @property
    def has_thirds(self) -> bool:
        """Return whether each third has two samples: a fast machine may finish a short run within one tick."""
        return len(self.samples) > 3 * 2

    def thirds(self) -> tuple[list[Sample], list[Sample]]:
        """Return the samples of the first and last third of the run, without the very first sample."""
        samples = self.samples[1:]
        third = len(samples) // 3
        return samples[:third], samples[-third:]


def best_p99_s(samples: Sequence[Sample]) -> float:
    """Return the 10th percentile of the samples' p99: other load on the machine can only increase a p99."""
    return share_of([sample.p99_s for sample in samples], BEST)


def best_cpu_us(samples: Sequence[Sample]) -> float:
    """Return the 10th percentile of the CPU per request."""
    pairs = [(a, b) for a, b in itertools.pairwise(samples) if b.requests > a.requests]
    return share_of([1e6 * (b.cpu_s - a.cpu_s) / (b.requests - a.requests) for a, b in pairs], BEST)


def wait_share(samples: Sequence[Sample]) -> float:
    """Return the share of time in which the process waited for a core."""
    first, last = samples[0], samples[-1]
    return (last.core_wait_s - first.core_wait_s) / max(1e-9, last.at_s - first.at_s)
