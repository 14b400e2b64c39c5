"""`flask models …` and `flask settings`: for whoever packs and looks after models."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from flask import Flask
from flask.cli import AppGroup

from app.core.catalogue import describe
from app.core.steps import load
from app.errors import ModelNotFound, PackingRefused, RetortError
from app.settings import MODELS_DIR, Settings, table
from app.storage.repository import Repository

log = logging.getLogger(__name__)

MAX_SHOWN_CHARS = 200


class RetortGroup(AppGroup):
    """Commands whose errors are one sentence on standard error, and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; our own errors and those of the file system become click's."""
        try:
            return super().invoke(ctx)
        except RetortError as error:
            raise click.ClickException(error.detail) from None
        except OSError as error:
            raise click.ClickException(
                f"{error.filename}: {error.strerror}" if error.filename else str(error)
            ) from None


def stray_packer(repository: Repository, settings: Settings) -> Callable[[Path, str], None]:
    """Packs an artifact that lies in the repository without a manifest; for development only."""

    def pack_stray(path: Path, name: str) -> None:
        from app.packing import spawn  # a serving process in production never needs it

        log.warning("packing %s as model %s (RETORT_ENV=development)", path, name)
        spawn.add(
            spawn.PackRequest(str(path), name, str(repository.root), graph_limit_bytes=settings.graph_limit_bytes),
            settings.packing_timeout_s,
            progress=_Logged(),
        )

    return pack_stray


def register(app: Flask, repository: Repository, settings: Settings) -> None:
    """Adds the commands to `flask`; where it is a server that starts, logs what the settings name in vain."""
    app.cli.add_command(_models(repository, settings))
    if click.get_current_context(silent=True) is None:
        for line in named_in_vain(repository, settings):
            log.warning("%s", line)

    @app.cli.command("settings", help="Show every setting, its value and where it came from.")
    def show_settings() -> None:
        lines = table(settings, os.environ)
        _print_table(("name", "value", "unit", "from"), [(s.env, s.value, s.unit, s.source) for s in lines])
        _print_named_in_vain(repository, settings)


def named_in_vain(repository: Repository, settings: Settings) -> list[str]:
    """What the settings name that is not there: the folder of the models, the default model."""
    if settings.models_dir != MODELS_DIR and not settings.models_dir.is_dir():
        return [f"RETORT_MODELS_DIR: there is no folder {settings.models_dir}, so that there are no models"]
    default, there = settings.default_model, repository.models()
    if default in ("", *there):
        return []
    if settings.development and default in [name for _, name in repository.strays()]:  # it is packed at the start
        return []
    return [f"RETORT_DEFAULT_MODEL: there is no model {default!r}; there are: {', '.join(there) or 'none'}"]


def _print_named_in_vain(repository: Repository, settings: Settings) -> None:
    for line in named_in_vain(repository, settings):
        click.echo(f"Warning: {line}", err=True)


def _models(repository: Repository, settings: Settings) -> AppGroup:
    models = RetortGroup("models", help="Pack, list, show, verify and remove models.")

    @models.command("add", help="Pack ARTIFACT as a new version of a model.")
    @click.argument("artifact", type=click.Path(path_type=Path))
    @click.option("--name", required=True, help="The model's name, as it stands in URLs.")
    @click.option("--sample", type=click.Path(path_type=Path), help="Rows it was trained on: .csv, .parquet or .json.")
    @click.option("--target", help="The sample's column that is predicted, not an input.")
    @click.option("--inputs", type=click.Path(path_type=Path), help="A JSON list that declares inputs.")
    @click.option(
        "--out-of-range",
        type=click.Choice(["ignore", "warn", "reject"]),
        help="Numbers outside the range seen in training; else RETORT_OUT_OF_RANGE says.",
    )
    @click.option(
        "--unseen",
        type=click.Choice(["reject", "warn", "accept"]),
        help="Categories never seen; else accepted where the model copes with them.",
    )
    @click.option("--default", is_flag=True, help="Put the model behind /predict.")
    @click.option("--before", multiple=True, metavar="STEP", help="A step before the run; may be given again.")
    @click.option("--after", multiple=True, metavar="STEP", help="A step after the run; may be given again.")
    @click.option(
        "--trained-with",
        metavar="REQUIREMENTS",
        help="The training environment, where the artifact does not say it: scikit-learn==1.4.2,numpy<2",
    )
    @click.option("--python", metavar="PATH", help="The Python of your training environment; packing runs there.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    def add(
        artifact: Path,
        default: bool,
        before: tuple[str, ...],
        after: tuple[str, ...],
        trained_with: str | None,
        python: str | None,
        as_json: bool,
        **asked: Any,
    ) -> None:
        from app.packing import spawn  # not needed by the other commands

        unchecked = _steps_unchecked((*before, *after), settings.steps)
        name = asked["name"]
        words: dict[str, Any] = {k: str(v) if v else None for k, v in asked.items()}
        request = spawn.PackRequest(
            str(artifact),
            models_dir=str(repository.root),
            graph_limit_bytes=settings.graph_limit_bytes,
            before=before,
            after=after,
            **words,
        )
        result = spawn.add(request, settings.packing_timeout_s, trained_with, python, _Said())
        if default:
            repository.set_default(name)
        remarks = [*result.remarks, *unchecked]
        if as_json:
            packed = {"model": name, "version": result.version, "remarks": remarks, "verdict": result.verdict}
            click.echo(msgspec.json.encode(packed).decode())
            return
        click.echo(f"{name} version {result.version} packed")
        for line in (*remarks, *(result.verdict.shown() if result.verdict else ())):
            click.echo(f"  {line}")

    @models.command("list", help="List the models and their versions.")
    def list_models() -> None:
        pointers = repository.pointers()
        rows = []
        for name in repository.models():
            aliases = pointers.aliases.get(name, {})
            for version in repository.versions(name):
                state, runtime = _on_disk(repository, name, version)
                named = ",".join(sorted(alias for alias, v in aliases.items() if v == version)) or "-"
                rows.append((name + " *" * (name == pointers.default), str(version), named, state, runtime))
        _print_table(("model", "version", "aliases", "state", "runtime"), rows)
        _print_named_in_vain(repository, settings)

    @models.command("show", help="Show the signature, examples, environment and hashes of a version.")
    @click.argument("name")
    @click.argument("version", type=int, required=False)
    def show(name: str, version: int | None) -> None:
        versions = repository.versions(name)
        if not versions:
            raise ModelNotFound(name, repository.models())
        manifest = repository.manifest(name, versions[-1] if version is None else version)
        document = {"name": manifest.model, "version": manifest.version, **describe(manifest)}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())

    @models.command("verify", help="Load and prove each version, in a process of its own.")
    @click.argument("name", required=False)
    def verify(name: str | None) -> None:
        from app.packing import spawn  # not needed by the other commands

        if name is not None and not repository.versions(name):
            raise ModelNotFound(name, repository.models())
        failed = 0
        for model in [name] if name else repository.models():
            for version in repository.versions(model):
                request = spawn.CheckRequest(model, version, str(repository.root))
                try:
                    spawn.run(request, settings.packing_timeout_s)
                    click.echo(f"{model} version {version}: ok")
                except RetortError as error:
                    failed += 1
                    click.echo(f"{model} version {version}: {error.detail}", err=True)
        if failed:
            raise click.exceptions.Exit(1)

    @models.command("remove", help="Remove a version.")
    @click.argument("name")
    @click.argument("version", type=int)
    def remove(name: str, version: int) -> None:
        repository.remove(name, version)
        click.echo(f"{name} version {version} removed")

    return models


class _Logged:
    """Progress in the log."""

    def line(self, text: str) -> None:
        """Logs what is worth keeping."""
        log.warning("%s", text)

    def step(self, text: str) -> None:
        """Logs nothing of what is being done now."""


class _Said:
    """Progress on standard error: what is being done now only where a person looks at it."""

    def line(self, text: str) -> None:
        """Says something that is worth keeping."""
        click.echo(text, err=True)

    def step(self, text: str) -> None:
        """Says what is being done now, in the place of what was said before."""
        if sys.stderr.isatty():
            shown = text[: shutil.get_terminal_size().columns - 1]
            click.echo(f"\r\033[K{shown}", err=True, nl=False)


def _steps_unchecked(names: Sequence[str], module: str) -> list[str]:
    """What is to be told where steps are listed, and no module says whether they are there.

    Raises:
        PackingRefused: the module has no step of a name.
    """
    if not names or not module:
        return ["its steps are not checked, since RETORT_STEPS is not set"] if names else []
    known = load(module).steps
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown:
        there = ", ".join(sorted(known)) or "none"
        raise PackingRefused(f"{module} has no step {' or '.join(map(repr, unknown))}; there are: {there}")
    return []


def _on_disk(repository: Repository, name: str, version: int) -> tuple[str, str]:
    """The state that can be told without loading anything, and the runtime."""
    from app.storage.verification import verify_files

    try:
        manifest = repository.manifest(name, version)
        verify_files(repository.folder(name, version), manifest)
    except RetortError as error:
        return f"FAILED ({error.detail[:MAX_SHOWN_CHARS]})", "-"
    return "VERIFIED", manifest.runtime


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    for line in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
