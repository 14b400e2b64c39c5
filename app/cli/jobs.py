"""`flask jobs work`: the worker of jobs that are made over HTTP."""

from __future__ import annotations

import signal

import click

from app.cli.group import RetortGroup, context
from app.errors import JobsNotInstalled
from app.jobs.service import missing_library

jobs = RetortGroup("jobs", help="Bulk scoring over HTTP.")


@jobs.command("work")
@click.option("--processes", type=click.IntRange(min=1), help="Processes that score; default: one for each core.")
def work(processes: int | None) -> None:
    """Score the jobs that POST /jobs takes, until SIGTERM or Ctrl+C; then the job goes on in another worker."""
    if missing := missing_library():
        raise JobsNotInstalled(missing)
    from app.jobs.worker import JobWorker  # with huey and SQLAlchemy, which no other command needs

    worker = JobWorker(context().settings, processes)
    before = {each: signal.signal(each, lambda *_: worker.stop()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        worker.work()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
