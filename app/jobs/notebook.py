"""`score`: score files from a notebook or a script, like `flask score` on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from app.jobs.job import Scored, ScoringJob
from app.jobs.progress import Progress
from app.settings import Settings
from app.settings.env_files import environ_with_files

StrPath = str | os.PathLike[str]


def score(
    model: str,
    source: StrPath,
    output: StrPath,
    *,
    version: int | str | None = None,
    keep: Sequence[str] = (),
    max_rejects: int | None = None,
    resume: bool = False,
    engine: str = "local",
    cluster: str = "",
    processes: int | None = None,
    models_dir: StrPath | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Scored:
    """Score the rows of files with a model, and write the predictions.

    Args:
        model: the name of the model.
        source: a file, a folder, a glob, or a URL (s3://, gs://, az://).
        output: a file or a URL; with a slash at its end, a folder that gets a file for each part.
        version: a number or an alias; by default the version that serves requests.
        keep: the columns of the source that are also written; a single column may be a string.
        max_rejects: the most rows that may be rejected; by default any number.
        resume: whether to continue an unfinished run of this output.
        engine: "local" for processes on this machine, or "dask".
        cluster: the address of Dask's scheduler.
        processes: the number of local processes; by default one per core.
        models_dir: the folder of models; by default the one in the settings.
        on_progress: called after each part.

    Returns:
        The counts of rows, and the locations of the output and the rejects.

    Raises:
        ModelNotFound, VersionNotFound: the model or the version does not exist.
        RetortError: the files cannot be scored; `detail` has the reason.
    """
    settings = Settings.from_environ(environ_with_files())
    if models_dir is not None:
        settings = replace(settings, models_dir=Path(models_dir))
    version_name = None if version is None else str(version)
    job = ScoringJob(
        model,
        version_name,
        os.fspath(source),
        os.fspath(output),
        keep=[keep] if isinstance(keep, str) else keep,
        max_rejects=max_rejects,
        resume=resume,
        engine=engine,
        cluster=cluster,
        processes=processes,
        settings=settings,
    )
    return job.run() if on_progress is None else job.run(on_progress)
