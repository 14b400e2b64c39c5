"""Where parts are scored: in this process, in processes of joblib's loky, or on a cluster of Dask.

An engine yields the scored parts in the order of the parts. It keeps a few parts in memory for each process.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any, Protocol

from app.errors import ScoringRefused
from app.jobs.parts import Part
from app.jobs.scoring import OutputForm, PartScorer, ScoredPart
from app.jobs.versions import VersionFiles
from app.settings.cores import allowed_cores

log = logging.getLogger(__name__)

SWITCH_S = 0.0002
ENGINES = ("local", "dask")
PARTS_OF_A_PROCESS = 2
"""Parts that are read or scored at once, for each process."""


class WorkerLost(Exception):
    """A worker process ended while it scored. Parts that were not finished have to be scored again."""


class Engine(Protocol):
    """Scores parts somewhere. `travels` says whether parts go to other processes."""

    travels: bool

    def scored(self, version: VersionFiles, form: OutputForm, parts: Iterable[Part]) -> Iterator[ScoredPart]:
        """Yield the scored parts in order.

        Raises:
            WorkerLost: A worker process ended.
        """


def engine_of(name: str, cluster: str = "", workers: int | None = None, *, in_threads: bool = False) -> Engine:
    """Return an engine.

    Args:
        name: "local" or "dask".
        cluster: The address of Dask's scheduler; empty for the one that Dask's own settings name.
        workers: The number of local workers; None for one for each core that the cgroup allows.
        in_threads: Whether local workers are threads, because scoring hardly holds the lock of the interpreter.

    Raises:
        ScoringRefused: The name is unknown, or a library is missing.
    """
    if name == "dask":
        for library, extra in (("distributed", "dask"), ("joblib", "packing")):
            if find_spec(library) is None:
                raise ScoringRefused(f"--engine dask needs {library}: pip install 'retort-serving[{extra}]'")
        return DaskEngine(cluster)
    if name != "local":
        raise ScoringRefused(f"there is no engine {name!r}; there are: {', '.join(ENGINES)}")
    if cluster:
        raise ScoringRefused("--cluster needs --engine dask")
    workers = workers or allowed_cores()
    if workers > 1 and find_spec("joblib") is None:
        log.warning("one core is used: more of them need joblib: pip install 'retort-serving[packing]'")
        workers = 1
    if workers == 1:
        return InlineEngine()
    return ThreadEngine(workers) if in_threads else LokyEngine(workers)


def score_part(version: VersionFiles, form: OutputForm, part: Part) -> ScoredPart:
    """Score a part in a worker process, which loads the version when it sees it first."""
    return PartScorer(version.lease(), form).score(part)


class InlineEngine:
    """Scores in this process, one part after the other."""

    travels = False

    def scored(self, version: VersionFiles, form: OutputForm, parts: Iterable[Part]) -> Iterator[ScoredPart]:
        """Yield the scored parts in order."""
        scorer = PartScorer(version.lease(), form)
        yield from map(scorer.score, parts)


class ThreadEngine:
    """Scores in threads of this process. They start at once, and no row is copied to another process."""

    travels = False

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def scored(self, version: VersionFiles, form: OutputForm, parts: Iterable[Part]) -> Iterator[ScoredPart]:
        """Yield the scored parts in order."""
        from joblib import parallel_config

        version.lease()
        with parallel_config(backend="threading", n_jobs=self._threads), _switching_quickly():
            yield from _in_parallel(version, form, parts, PARTS_OF_A_PROCESS * self._threads)


@contextmanager
def _switching_quickly() -> Iterator[None]:
    """Let a thread that comes back from NumPy wait less long for the lock that another one holds."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


class LokyEngine:
    """Scores in processes of this machine that joblib starts."""

    travels = True

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def scored(self, version: VersionFiles, form: OutputForm, parts: Iterable[Part]) -> Iterator[ScoredPart]:
        """Yield the scored parts in order."""
        from joblib import parallel_config
        from joblib.externals.loky.process_executor import BrokenProcessPool

        with parallel_config(backend="loky", n_jobs=self._processes, inner_max_num_threads=1):
            try:
                yield from _in_parallel(version, form, parts, PARTS_OF_A_PROCESS * self._processes)
            except BrokenProcessPool as error:
                raise WorkerLost(f"a worker process ended ({type(error).__name__})") from None


class DaskEngine:
    """Scores on a cluster of Dask. The files of the version travel to each worker once."""

    travels = True

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster

    def scored(self, version: VersionFiles, form: OutputForm, parts: Iterable[Part]) -> Iterator[ScoredPart]:
        """Yield the scored parts in order."""
        from distributed import Client
        from joblib import parallel_config

        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Sending large graph")
            client = stack.enter_context(_client(Client, self._cluster))
            threads = max(1, sum(client.nthreads().values()))
            # joblib sends it to each worker once, before the first part.
            travelling = version.with_files()
            stack.enter_context(parallel_config(backend=_dask_backend(client, travelling), n_jobs=threads))
            yield from _in_parallel(travelling, form, parts, PARTS_OF_A_PROCESS * threads)


def _dask_backend(client: Any, version: VersionFiles) -> Any:
    """Return joblib's backend for Dask. Unlike joblib's own, it does not wait forever for a part that Dask gave up."""
    from joblib._dask import DaskDistributedBackend

    backend = DaskDistributedBackend(client=client, scatter=[version])
    submit = backend.submit

    def submit_and_tell(func: Any, callback: Any = None) -> Any:
        submitted = submit(func, callback)
        submitted.add_done_callback(lambda done: done.exception() and callback(done.exception()))
        return submitted

    backend.submit = submit_and_tell
    return backend


def _client(make: Callable[..., Any], cluster: str) -> Any:
    try:
        return make(cluster or None, set_as_default=True)
    except (OSError, ValueError) as error:
        raise ScoringRefused(f"no scheduler of Dask answers at {cluster or 'the address in its settings'}") from error


def _in_parallel(version: Any, form: OutputForm, parts: Iterable[Part], at_once: int) -> Iterator[ScoredPart]:
    from joblib import Parallel, delayed

    # joblib takes from the iterator in a thread that must not raise.
    failed: list[BaseException] = []

    def read() -> Iterator[Part]:
        try:
            yield from parts
        except BaseException as error:  # noqa: BLE001 - raised below
            failed.append(error)

    run = Parallel(return_as="generator", batch_size=1, pre_dispatch=at_once)
    for scored in run(delayed(score_part)(version, form, part) for part in read()):
        if not isinstance(scored, ScoredPart):  # the error of a worker of Dask that ended, or lost the version
            raise WorkerLost(f"a worker of the cluster ended ({type(scored).__name__})")
        yield scored
    if failed:
        raise failed[0]
