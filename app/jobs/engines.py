"""Engines: score parts in this process, in forked processes, in loky processes of joblib, or on a Dask cluster.

An engine yields the scored parts in order. It keeps a few parts in memory for each process.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Protocol

from app.errors import ScoringRefused
from app.jobs.forked import ForkEngine, WorkerLost, can_fork
from app.jobs.input_parts import InputParts
from app.jobs.interrupts import end_with, interrupting_only_this_thread, start_trackers
from app.jobs.parts import Part
from app.jobs.scoring import OutputForm, PartScorer, ScoredPart, score_rows
from app.jobs.stretches import InputUnseen, Stretch
from app.jobs.versions import VersionFiles
from app.settings.cores import allowed_cores

log = logging.getLogger(__name__)

ENGINES = ("local", "dask")
PARTS_OF_A_PROCESS = 2
"""Parts in memory for each process: one is scored while the next one waits."""


class Engine(Protocol):
    """A way to score parts."""

    def score(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
        """Yield the scored parts in order.

        Raises:
            WorkerLost: A worker process ended.
        """


def engine_of(name: str, cluster: str = "", workers: int | None = None, *, forking: bool = False) -> Engine:
    """Return the engine for a name.

    Args:
        name: "local" or "dask".
        cluster: The address of Dask's scheduler; empty for the address in Dask's own settings.
        workers: The number of local workers; None for one per core that the cgroup allows.
        forking: Whether to fork local workers from this process, if that is safe.

    Raises:
        ScoringRefused: The name is unknown, or a library is missing.
    """
    if name == "dask":
        for library in ("distributed", "joblib"):
            if find_spec(library) is None:
                raise ScoringRefused(f"--engine dask needs {library}: pip install {library}")
        return DaskEngine(cluster)
    if name != "local":
        raise ScoringRefused(f"there is no engine {name!r}; there are: {', '.join(ENGINES)}")
    if cluster:
        raise ScoringRefused("--cluster needs --engine dask")
    workers = workers or allowed_cores()
    if workers > 1 and forking and can_fork():
        return ForkEngine(workers)
    if workers > 1 and find_spec("joblib") is None:
        log.warning("one core is used: more of them need joblib: pip install joblib")
        workers = 1
    return InlineEngine() if workers == 1 else LokyEngine(workers)


def score_part(version: VersionFiles, form: OutputForm, rows: Part | Stretch) -> list[ScoredPart] | Unseen:
    """Score a part, or the parts of a stretch, in a worker. Return `Unseen` if the worker cannot read the file."""
    try:
        return [*score_rows(version, form, rows)]
    except InputUnseen as error:
        return Unseen(str(error))


@dataclass(frozen=True, slots=True)
class Unseen:
    """The answer of a worker that cannot read the file of a stretch, with the reason."""

    reason: str


class InlineEngine:
    """Engine that scores in this process, one part after the other."""

    def score(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
        """Yield the scored parts in order."""
        scorer = PartScorer(version.lease(), form)
        yield from map(scorer.score, parts.read())


class LokyEngine:
    """Engine that scores in local processes, which joblib starts."""

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def score(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
        """Yield the scored parts in order."""
        from joblib import parallel_config
        from joblib.externals.loky.process_executor import BrokenProcessPool

        start_trackers()
        initializer = {"initializer": end_with, "initargs": (os.getpid(),)}
        with parallel_config(backend="loky", n_jobs=self._processes, inner_max_num_threads=1, **initializer):
            try:
                read = parts.read(as_bytes=True)
                yield from _in_parallel(version, form, read, PARTS_OF_A_PROCESS * self._processes)
            except BrokenProcessPool as error:
                raise WorkerLost(f"a worker process ended ({type(error).__name__})") from None


class DaskEngine:
    """Engine that scores on a Dask cluster. It sends the files of the version to each worker once."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._can_workers_read = True
        """Whether workers are still assumed to see the input files."""

    def score(self, version: VersionFiles, form: OutputForm, parts: InputParts) -> Iterator[ScoredPart]:
        """Yield the scored parts in order."""
        from distributed import CancelledError, Client, KilledWorker
        from distributed.comm.core import CommClosedError
        from joblib import parallel_config

        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Sending large graph")
            client = stack.enter_context(_connect(Client, self._cluster))
            _refuse_cluster_without_retort(client)
            threads = max(1, sum(client.nthreads().values()))
            # joblib sends the version to each worker once, before the first part.
            version_with_files = version.with_files()
            stack.enter_context(parallel_config(backend=_dask_backend(client, version_with_files), n_jobs=threads))
            try:
                yield from self._score_on(version_with_files, form, parts, threads)
            except (CancelledError, KilledWorker, CommClosedError) as error:  # the scheduler ended, or gave up a part
                raise WorkerLost(f"the cluster lost a part ({type(error).__name__})") from None

    def _score_on(
        self, version: VersionFiles, form: OutputForm, parts: InputParts, threads: int
    ) -> Iterator[ScoredPart]:
        """Let the workers read their parts. If one cannot, read the rest here and send it to the workers."""
        done, at_once = parts.done, PARTS_OF_A_PROCESS * threads
        if self._can_workers_read:
            try:
                for scored in _in_parallel(version, form, parts.stretches(threads), at_once):
                    done = scored.number + 1
                    yield scored
                return
            except InputUnseen as unseen:
                log.warning("%s; so this process reads the input, and its rows travel to the workers", unseen)
                self._can_workers_read = False
        remaining = replace(parts, done=done).read(as_bytes=True)
        yield from _in_parallel(version, form, remaining, at_once)


def _dask_backend(client: Any, version: VersionFiles) -> Any:
    """Return joblib's backend for Dask, changed to report the error of a part that Dask gave up.

    The original backend would wait for that part forever.
    """
    from joblib._dask import DaskDistributedBackend

    backend = DaskDistributedBackend(client=client, scatter=[version])
    submit = backend.submit

    def submit_and_report(func: Any, callback: Any = None) -> Any:
        submitted = submit(func, callback)
        submitted.add_done_callback(lambda future: future.exception() and callback(future.exception()))
        return submitted

    backend.submit = submit_and_report
    return backend


def _connect(client_class: Callable[..., Any], cluster: str) -> Any:
    from dask import config

    if not cluster and not config.get("scheduler-address", None):  # Dask would start a cluster of its own
        raise ScoringRefused(
            "--engine dask needs --cluster, the scheduler of Dask, as in --cluster tcp://10.0.0.1:8786"
        )
    try:
        return client_class(cluster or None, set_as_default=True)
    except (OSError, ValueError) as error:
        raise ScoringRefused(f"no scheduler of Dask answers at {cluster or 'the address in its settings'}") from error


def _refuse_cluster_without_retort(client: Any) -> None:
    """Check that the scheduler and all workers of a cluster can import Retort.

    Raises:
        ScoringRefused: One of them cannot.
    """
    specs = client.run(find_spec, score_part.__module__, on_error="return")
    scheduler = f"{client.scheduler.address} (the scheduler)"
    try:
        specs[scheduler] = client.run_on_scheduler(find_spec, score_part.__module__)
    except ImportError as error:
        specs[scheduler] = error
    for address, spec in specs.items():
        if spec is None or isinstance(spec, ImportError):
            raise ScoringRefused(
                f"the process of Dask at {address} cannot import Retort: start it with a clone of it on PYTHONPATH"
            )


def _in_parallel(
    version: Any,
    form: OutputForm,
    parts: Iterable[Part | Stretch],
    at_once: int,
) -> Iterator[ScoredPart]:
    """Score parts with joblib, at most `at_once` at a time, and yield them in order.

    Raises:
        InputUnseen: A worker cannot read the file of a stretch.
        WorkerLost: A worker ended.
    """
    from joblib import Parallel, delayed

    # joblib reads the iterator in a thread that must not raise.
    read_failures: list[BaseException] = []

    def read() -> Iterator[Part | Stretch]:
        try:
            yield from parts
        except BaseException as error:  # noqa: BLE001 - raised below
            read_failures.append(error)

    run = Parallel(return_as="generator", batch_size=1, pre_dispatch=at_once)
    results: Generator[Any, None, None] | None = None
    try:
        with interrupting_only_this_thread():
            results = run(delayed(score_part)(version, form, part) for part in read())
        for scored in results:
            if isinstance(scored, Unseen):
                raise InputUnseen(scored.reason)
            if not isinstance(scored, list):  # an error: a Dask worker ended, or lost the version
                raise WorkerLost(f"a worker of the cluster ended ({type(scored).__name__})")
            yield from scored
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # joblib warns about parts that are no longer needed
            if results is not None:
                results.close()
    if read_failures:
        raise read_failures[0]
