"""`flask models add`, `repack` and `compare`; packing of stray artifacts when a server starts in development."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from app.cli.group import ProgressLine, context, models, reload_hint, servers_of
from app.core.catalogue import describe
from app.settings import Settings
from app.storage.repository import Repository

if TYPE_CHECKING:
    from app.packing.stages import Stage
    from app.packing.start import PackedVersion

# `app.packing` is imported where a command needs it: a serving process in production never does.

log = logging.getLogger(__name__)

MAX_CURL_CHARS = 1000


class Progress(ProgressLine):
    """The progress of packing, on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._stage_began_s = self._began_s
        self._stage = ""

    def stage(self, stage: Stage) -> None:
        """Show a stage, with the number of rows done and the time left if they are known."""
        now_s = time.monotonic()
        if stage.name != self._stage:
            self._stage, self._stage_began_s = stage.name, now_s
        line = f"{now_s - self._began_s:.0f} s: {stage.name}"
        if stage.rows:
            line += f", {stage.done_rows:,} of {stage.rows:,} rows"
        if stage.done_rows:
            left_s = (now_s - self._stage_began_s) * (stage.rows / stage.done_rows - 1)
            line += f", about {left_s:.0f} s left"
        self._show(line, now_s)


def stray_packer(repository: Repository, settings: Settings) -> Callable[[Path, str], None]:
    """Return a function that packs a stray artifact of the repository. Used in development only."""

    def pack_stray(path: Path, name: str) -> None:
        from app.packing import spawn, stages, start

        log.warning("packing %s as model %s (RETORT_ENV=development)", path, name)
        start.add(
            spawn.PackRequest(str(path), name, str(repository.root), graph_limit_bytes=settings.graph_limit_bytes),
            settings.packing_timeout_s,
            progress=stages.LoggedProgress(),
        )

    return pack_stray


_stage_option = click.option(
    "--stage", is_flag=True, help="Answer only requests that name the version, until `use` chooses it."
)
_trained_with_option = click.option(
    "--trained-with",
    metavar="REQUIREMENTS",
    help="The training environment, if the artifact does not name it: scikit-learn==1.4.2,numpy<2",
)
_python_option = click.option(
    "--python", metavar="PATH", help="The Python of your training environment; packing runs there."
)


@models.command("add")
@click.argument("artifact", nargs=-1, required=True)
@click.option("--name", required=True, help="The model's name, as it stands in URLs.")
@click.option(
    "--sample", type=click.Path(path_type=Path), help="Rows like those it was trained on: a file with a table."
)
@click.option(
    "--target",
    multiple=True,
    metavar="COLUMN",
    help="The sample's column that is predicted, not an input; may be repeated for several targets.",
)
@click.option("--inputs", type=click.Path(path_type=Path), help="A JSON list that declares inputs.")
@click.option("--card", type=click.Path(path_type=Path), help="Your description of the model, for its page: Markdown.")
@click.option(
    "--out-of-range",
    type=click.Choice(["ignore", "warn", "reject"]),
    help="What to do with numbers outside the training range; default: RETORT_OUT_OF_RANGE.",
)
@click.option(
    "--unseen",
    type=click.Choice(["reject", "warn", "accept"]),
    help="What to do with unknown categories; default: accept if the model can handle them.",
)
@click.option("--default", is_flag=True, help="Put the model behind /predict.")
@_stage_option
@click.option(
    "--before",
    multiple=True,
    metavar="STEP",
    help="A step before the run, or a transformer in the artifact; may be repeated.",
)
@click.option("--after", multiple=True, metavar="STEP", help="A step after the run; may be repeated.")
@click.option("--use", metavar="PART", help="The part of the artifact that is the model, if it holds several.")
@click.option("--columns", metavar="PART", help="The part, or a JSON file, that holds the names of the inputs.")
@click.option("--labels", metavar="PART", help="The part, or a file, that decodes predictions: a LabelEncoder.")
@click.option("--trust", is_flag=True, help="Load the types in a .skops file that skops does not know.")
@_trained_with_option
@_python_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def add(
    artifact: tuple[str, ...],
    default: bool,
    stage: bool,
    target: tuple[str, ...],
    before: tuple[str, ...],
    after: tuple[str, ...],
    trust: bool,
    trained_with: str | None,
    python: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Pack ARTIFACT, one model in one or several files, as a new version of a model."""
    from app.packing.spawn import PackRequest
    from app.packing.start import add_version

    repository, settings = context().repository, context().settings
    request = PackRequest(
        artifact[0],
        models_dir=str(repository.root),
        target=_one_or_several(target),
        before=before,
        after=after,
        beside=artifact[1:],
        trust=trust,
        staged=stage,
        **{name: str(value) if value else None for name, value in options.items()},  # type: ignore[arg-type]
    )
    with Progress() as progress:
        packed = add_version(
            request, settings, default=default, trained_with=trained_with, python=python, progress=progress
        )
    if as_json:
        described = describe(repository.manifest(packed.name, packed.version))
        document = {"model": packed.name, "version": packed.version, "remarks": packed.remarks}
        document |= {"verdict": packed.verdict, **{key: described[key] for key in ("assumptions", "proof")}}
        click.echo(msgspec.json.encode(document).decode())
        return
    _print_packed(packed)


@models.command("repack")
@click.argument("name")
@click.argument("version", type=int, required=False)
@_stage_option
@_trained_with_option
@_python_option
def repack(name: str, version: int | None, stage: bool, trained_with: str | None, python: str | None) -> None:
    """Pack the artifact of a version again, in an environment like that of its training."""
    from app.packing import spawn, start
    from app.packing.start import PackedVersion

    repository, settings = context().repository, context().settings
    number = context().version_or_chosen(name, version)
    request = spawn.RepackRequest(name, number, str(repository.root), settings.graph_limit_bytes, stage)
    with Progress() as progress:
        result = start.repack(request, settings.packing_timeout_s, trained_with, python, progress)
    _print_packed(PackedVersion.of(repository, name, result))


@models.command("compare")
@click.argument("name")
@click.argument("a", type=int)
@click.argument("b", type=int)
@click.option("--data", "rows", required=True, type=click.Path(path_type=Path), help="Rows: .csv, .parquet or .json.")
@click.option(
    "--target",
    multiple=True,
    metavar="COLUMN",
    help="The column of the file that is predicted, not an input; may be repeated.",
)
def compare(name: str, a: int, b: int, rows: Path, target: tuple[str, ...]) -> None:
    """Compare the predictions of versions A and B for the rows of a file."""
    from app.packing import spawn

    repository = context().repository
    for version in (a, b):
        repository.folder(name, version)
    spawn.require_files([rows])
    request = spawn.CompareRequest(name, (a, b), str(rows), str(repository.root), _one_or_several(target))
    for line in spawn.run(request, context().settings.packing_timeout_s).remarks:
        click.echo(line)


def _one_or_several(target: tuple[str, ...]) -> str | tuple[str, ...] | None:
    return target if len(target) > 1 else next(iter(target), None)


def _print_packed(packed: PackedVersion) -> None:
    for line in (*packed.lines(), *_next_steps(packed.name, packed.version)):
        click.echo(line)


def _next_steps(name: str, version: int) -> list[str]:
    """Return hints for the version that was just packed: how to serve it, and how to send it a request."""
    repository = context().repository
    chosen = repository.pointers().chosen(name, repository.versions(name))
    lines = []
    if chosen != version:
        lines.append(f"version {chosen} answers; for this one to: flask models use {name} {version}")
    servers = servers_of(repository)
    lines.append(reload_hint(servers) if servers else "to serve it: make serve")
    url = (servers[0].settings if servers else context().settings).url
    path = f"/models/{name}/predict" if chosen == version else f"/models/{name}/versions/{version}/predict"
    manifest = repository.manifest(name, version)
    body = shlex.quote(msgspec.json.encode(manifest.examples[0].instance).decode()) if manifest.examples else ""
    if manifest.before:  # its examples are for the model; clients send something else
        lines.append(f"to ask it: {url}/docs has the fields that its steps leave to clients")
    elif 0 < len(body) <= MAX_CURL_CHARS:
        lines.append(f"to ask it: curl {url}{path} -d {body}")
    else:
        lines.append(f"to ask it: {url}/docs has an example")
    return lines
