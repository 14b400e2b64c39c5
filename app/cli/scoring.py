"""`flask score`: score files of any size. `flask jobs work`: the worker of jobs that are made over HTTP."""

from __future__ import annotations

import atexit
import gc
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
from flask.cli import with_appcontext

from app.cli.group import ProgressLine, RetortGroup, context, reported
from app.errors import JobsNotInstalled, ScoringCancelled
from app.jobs.engines import ENGINES
from app.jobs.job import ScoringJob
from app.jobs.progress import Progress
from app.jobs.service import missing_library
from app.telemetry.process_state import keep_freed_blocks

STOPPING = (signal.SIGINT, signal.SIGTERM)
SIGNALLED = 128
"""The exit status of a command that a signal ended is this plus the number of the signal, as in shells."""
NAMED = re.compile(r"(?P<model>[^@:]*)(?:[@:](?P<version>.+))?")


class ScoringProgress(ProgressLine):
    """The progress of scoring: rows, their rate, and the time left."""

    def show(self, progress: Progress) -> None:
        """Show how far the run is."""
        line = f"{progress.elapsed_s:.0f} s: {progress.fraction:.0%}, {progress.rows:,} rows"
        if progress.rejected:
            line += f" ({progress.rejected:,} rejected)"
        if progress.rows_per_s:
            line += f", {progress.rows_per_s:,.0f} rows/s"
        if progress.left_s is not None:
            line += f", about {progress.left_s:.0f} s left"
        self._show(line, time.monotonic())


@click.command("score")
@click.argument("model", metavar="MODEL[@ALIAS|:VERSION]")
@click.argument("input_", metavar="INPUT")
@click.argument("output", metavar="OUTPUT")
@click.argument("others", metavar="", nargs=-1)
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMNS",
    help="Columns of the input to write too, separated by commas; may be repeated.",
)
@click.option("--resume", is_flag=True, help="Go on with an unfinished run of this output.")
@click.option(
    "--engine", type=click.Choice(ENGINES), default="local", help="Processes of this machine, or a cluster of Dask."
)
@click.option("--cluster", default="", metavar="ADDRESS", help="The scheduler of Dask: tcp://10.0.0.1:8786.")
@click.option("--processes", type=click.IntRange(min=1), help="Local processes; default: one for each core.")
@click.option(
    "--max-rejects", type=click.IntRange(min=0), metavar="N", help="End with an error if more rows cannot be scored."
)
@with_appcontext
@reported
def score(
    model: str,
    input_: str,
    output: str,
    others: tuple[str, ...],
    keep: tuple[str, ...],
    resume: bool,
    engine: str,
    cluster: str,
    processes: int | None,
    max_rejects: int | None,
) -> None:
    """Score the rows of INPUT (CSV, NDJSON, Parquet, Arrow) with a model, and write the predictions to OUTPUT.

    INPUT is a file, a folder, a glob, or a URL (s3://, gs://, az://). OUTPUT is a file or a URL; with a slash at its
    end, a folder that gets a file for each part. The names tell the formats.
    """
    if others:
        raise click.UsageError("INPUT is one file, folder or glob: put a glob in quotes, else the shell expands it")
    if not input_ or not output:
        raise click.UsageError(f"{'OUTPUT' if input_ else 'INPUT'} is empty")
    named = NAMED.fullmatch(model)
    if named is None:
        raise click.UsageError(f"{model!r} is no model: name it as in penguins, penguins@champion or penguins:3")
    job = ScoringJob(
        named["model"],
        named["version"],
        input_,
        output,
        keep=tuple(name.strip() for name in ",".join(keep).split(",") if name.strip()),
        max_rejects=max_rejects,
        resume=resume,
        engine=engine,
        cluster=cluster,
        processes=processes,
        settings=context().settings,
    )
    keep_freed_blocks()
    atexit.register(gc.freeze)  # otherwise Python would search all modules for garbage at its end
    with ScoringProgress() as progress, _stoppable() as stopped_by:
        try:
            scored = job.run(progress.show, lambda: bool(stopped_by))
        except (KeyboardInterrupt, ScoringCancelled):
            progress.line(f"Error: {ScoringCancelled().detail}")
            raise click.exceptions.Exit(SIGNALLED + (stopped_by or [signal.SIGINT])[0]) from None
    click.echo(f"{_rows(scored.rows - scored.rejected)} scored with {scored.model} version {scored.version}: {output}")
    if scored.rejected:
        click.echo(f"{_rows(scored.rejected)} could not be scored: {scored.rejects}")


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Treat SIGTERM, which supervisors and schedulers send, like Ctrl-C. Yield the list of received signals.

    The first signal raises KeyboardInterrupt. The list is needed because code that Python calls by itself, such as a
    finalizer, may lose the exception. Further signals, and signals after the run, are ignored: the process ends soon,
    and they would only cause a traceback.
    """
    received: list[int] = []

    def ignore() -> None:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)

    def stop(number: int, _: FrameType | None) -> None:
        ignore()
        received.append(number)
        threading.excepthook = lambda _: None  # the sudden end may cause errors in threads of libraries
        raise KeyboardInterrupt

    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # a shell ignores Ctrl-C for a command in the background
            signal.signal(number, stop)
    try:
        yield received
    finally:
        ignore()


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


jobs = RetortGroup("jobs", help="Bulk scoring over HTTP.")


@jobs.command("work")
@click.option("--processes", type=click.IntRange(min=1), help="Processes that score; default: one for each core.")
def work(processes: int | None) -> None:
    """Score the jobs that POST /jobs takes, until SIGTERM or Ctrl+C; then the job goes on in another worker."""
    if missing := missing_library():
        raise JobsNotInstalled(missing)
    from app.jobs.worker import JobWorker  # with huey and SQLAlchemy, which no other command needs

    worker = JobWorker(context().settings, processes)
    before = {number: signal.signal(number, lambda *_: worker.stop()) for number in STOPPING}
    try:
        worker.work()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
