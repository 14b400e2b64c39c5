"""A wall clock that jumps: a C shim between a program and its C library, and the file that controls it."""

from __future__ import annotations

import mmap
import subprocess
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(void) {
    static volatile long *seconds;
    if (!seconds) {
        int fd = open(getenv("CLOCK_AHEAD"), O_RDONLY);
        seconds = mmap(0, sizeof *seconds, PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
    }
    return *seconds;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *also) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (also) *also = now.tv_sec;
    return now.tv_sec;
}
"""
"""Shift only the wall clock. The kernel's timers use the monotonic clock, which is unchanged."""


class WallClock:
    """The wall clock of the programs that are started with `environment`. All of them see a jump at once."""

    def __init__(self, folder: Path) -> None:
        source, library, told = folder / "clock.c", folder / "clock.so", folder / "ahead"
        source.write_text(SOURCE, "utf-8")
        told.write_bytes(bytes(8))
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True, timeout=60)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(told)}
        with told.open("r+b") as file:
            self._ahead = mmap.mmap(file.fileno(), 8)

    def jump(self, seconds: int) -> None:
        """Move the clock forward by this much, or back with a negative number."""
        self._ahead[:] = seconds.to_bytes(8, "little", signed=True)

    def close(self) -> None:
        self._ahead.close()
