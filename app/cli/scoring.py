"""`flask score`: score files of any size."""

from __future__ import annotations

import re

import click
from flask.cli import with_appcontext

from app.cli.group import context, reported
from app.cli.progress import ScoringProgress
from app.jobs.engines import ENGINES
from app.jobs.job import ScoringJob

NAMED = re.compile(r"(?P<model>[^@:]*)(?:[@:](?P<version>.+))?")


@click.command("score")
@click.argument("model", metavar="MODEL[@ALIAS|:VERSION]")
@click.argument("input_", metavar="INPUT")
@click.argument("output", metavar="OUTPUT")
@click.option("--keep", default="", metavar="COLUMNS", help="Columns of the input to write too, separated by commas.")
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
    keep: str,
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
    named = NAMED.fullmatch(model)
    if named is None:
        raise click.UsageError(f"{model!r} is no model: name it as in penguins, penguins@champion or penguins:3")
    job = ScoringJob(
        named["model"],
        named["version"],
        input_,
        output,
        keep=tuple(name.strip() for name in keep.split(",") if name.strip()),
        max_rejects=max_rejects,
        resume=resume,
        engine=engine,
        cluster=cluster,
        processes=processes,
        settings=context().settings,
    )
    with ScoringProgress() as progress:
        scored = job.run(progress.show)
    click.echo(f"{_rows(scored.rows - scored.rejected)} scored with {scored.model} version {scored.version}: {output}")
    if scored.rejected:
        click.echo(f"{_rows(scored.rejected)} could not be scored: {scored.rejects}")


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"
