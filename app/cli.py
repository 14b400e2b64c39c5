"""`flask models …` and `flask settings`: for whoever packs and looks after models."""

from __future__ import annotations

import http.client
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from flask import Flask
from flask.cli import AppGroup

from app.core.catalogue import describe
from app.core.steps import load
from app.errors import InvalidSettings, ModelNotFound, PackingRefused, RetortError
from app.runtime.policy import State
from app.server.running import RunningServer, running_servers
from app.settings import MODELS_DIR, Settings, table
from app.storage.choices import NEWEST
from app.storage.repository import Repository

if TYPE_CHECKING:
    from app.packing.stages import Stage

log = logging.getLogger(__name__)

MAX_SHOWN_CHARS = 200
MAX_CURL_CHARS = 1000
SAID_EVERY_S = 10.0
ERASED = "\r\033[K"
RELOADED_WITHIN_S = 60.0
ASKED_WITHIN_S = 2.0


class Progress:
    """Show the progress of packing on standard error: in one line on a terminal, else every ten seconds."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._began_s = self._stage_began_s = time.monotonic()
        self._said_s = self._began_s
        self._stage = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_terminal:
            click.echo(ERASED, nl=False, err=True)

    def line(self, text: str) -> None:
        """Print a sentence that stays."""
        click.echo(f"{ERASED if self._on_terminal else ''}{text}", err=True)

    def stage(self, stage: Stage) -> None:
        """Show a stage, with the rows done and the time left where they are known."""
        now_s = time.monotonic()
        if stage.name != self._stage:
            self._stage, self._stage_began_s = stage.name, now_s
        if not self._on_terminal and now_s - self._said_s < SAID_EVERY_S:
            return
        self._said_s = now_s
        line = f"{now_s - self._began_s:.0f} s: {stage.name}"
        if stage.rows:
            line += f", {stage.done_rows:,} of {stage.rows:,} rows"
        if stage.done_rows:
            left_s = (now_s - self._stage_began_s) * (stage.rows / stage.done_rows - 1)
            line += f", about {left_s:.0f} s left"
        if self._on_terminal:
            width = shutil.get_terminal_size().columns - 1
            click.echo(f"{ERASED}{line[:width]}", nl=False, err=True)
        else:
            click.echo(line, err=True)


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
        from app.packing import spawn, start  # a serving process in production never needs it

        log.warning("packing %s as model %s (RETORT_ENV=development)", path, name)
        start.add(
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


def _print_problems(repository: Repository) -> None:
    for line in repository.problems():
        click.echo(f"Warning: {line}", err=True)


def _models(repository: Repository, settings: Settings) -> AppGroup:
    models = RetortGroup("models", help="Pack, list, choose, compare, verify and remove models.")
    _packing(models, repository, settings)
    _looking(models, repository, settings)
    _choosing(models, repository, settings)
    return models


def _packing(models: AppGroup, repository: Repository, settings: Settings) -> None:

    @models.command("add", help="Pack ARTIFACT, one model in one or several files, as a new version of a model.")
    @click.argument("artifact", nargs=-1, required=True)
    @click.option("--name", required=True, help="The model's name, as it stands in URLs.")
    @click.option("--sample", type=click.Path(path_type=Path), help="Rows it was trained on, in any file of a table.")
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
    @click.option("--stage", is_flag=True, help="Let it answer by its number only, until `use` chooses it.")
    @click.option(
        "--before",
        multiple=True,
        metavar="STEP",
        help="A step before the run, or a transformer in the artifact before the model; may be given again.",
    )
    @click.option("--after", multiple=True, metavar="STEP", help="A step after the run; may be given again.")
    @click.option("--use", metavar="PART", help="The part of the artifact that is the model, where it holds several.")
    @click.option("--columns", metavar="PART", help="The part, or a JSON file, that holds the names of the inputs.")
    @click.option("--labels", metavar="PART", help="The part, or a file, that decodes predictions: a LabelEncoder.")
    @click.option("--trust", is_flag=True, help="Build the types in a .skops file that skops does not know.")
    @click.option(
        "--trained-with",
        metavar="REQUIREMENTS",
        help="The training environment, where the artifact does not say it: scikit-learn==1.4.2,numpy<2",
    )
    @click.option("--python", metavar="PATH", help="The Python of your training environment; packing runs there.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    def add(
        artifact: tuple[str, ...],
        default: bool,
        stage: bool,
        before: tuple[str, ...],
        after: tuple[str, ...],
        trust: bool,
        trained_with: str | None,
        python: str | None,
        as_json: bool,
        **asked: Any,
    ) -> None:
        from app.packing import spawn, start  # not needed by the other commands

        repository.pointers()  # packing takes a while: what hinders it at its end is said now
        # Whether a name is a part of the artifact is known only to the process that reads it.
        parts = asked["use"] is not None or len(artifact) > 1
        unchecked = _steps_unchecked(after if parts else (*before, *after), settings.steps)
        name = asked["name"]
        words: dict[str, Any] = {k: str(v) if v else None for k, v in asked.items()}
        request = spawn.PackRequest(
            artifact[0],
            models_dir=str(repository.root),
            graph_limit_bytes=settings.graph_limit_bytes,
            before=before,
            after=after,
            beside=artifact[1:],
            trust=trust,
            known_steps=tuple(sorted(load(settings.steps).steps)) if settings.steps and before else None,
            staged=stage,
            **words,
        )
        with Progress() as progress:
            result = start.add(request, settings.packing_timeout_s, trained_with, python, progress)
        if default:
            repository.set_default(name)
        remarks = [*result.remarks, *unchecked]
        if as_json:
            described = describe(repository.manifest(name, result.version or 0))
            packed = {"model": name, "version": result.version, "remarks": remarks, "verdict": result.verdict}
            packed |= {key: described[key] for key in ("assumptions", "proof")}
            click.echo(msgspec.json.encode(packed).decode())
            return
        verdict = result.verdict.shown() if result.verdict else ()
        _print_packed(repository, settings, name, result.version, [*remarks, *verdict])

    @models.command("repack", help="Pack the artifact of a version again, in an environment like that of its training.")
    @click.argument("name")
    @click.argument("version", type=int, required=False)
    @click.option("--stage", is_flag=True, help="Let it answer by its number only, until `use` chooses it.")
    @click.option(
        "--trained-with",
        metavar="REQUIREMENTS",
        help="The training environment, where the version does not say it: scikit-learn==1.4.2,numpy<2",
    )
    @click.option("--python", metavar="PATH", help="The Python of your training environment; packing runs there.")
    def repack(name: str, version: int | None, stage: bool, trained_with: str | None, python: str | None) -> None:
        from app.packing import spawn, start  # not needed by the other commands

        number = _version_or_chosen(repository, name, version)
        request = spawn.RepackRequest(name, number, str(repository.root), settings.graph_limit_bytes, stage)
        with Progress() as progress:
            result = start.repack(request, settings.packing_timeout_s, trained_with, python, progress)
        verdict = result.verdict.shown() if result.verdict else ()
        _print_packed(repository, settings, name, result.version, [*result.remarks, *verdict])

    @models.command("compare", help="Ask versions A and B for the rows of a file, and say how often they agree.")
    @click.argument("name")
    @click.argument("a", type=int)
    @click.argument("b", type=int)
    @click.option("--data", required=True, type=click.Path(path_type=Path), help="Rows: .csv, .parquet or .json.")
    @click.option("--target", help="The column of the file that is predicted, not an input.")
    def compare(name: str, a: int, b: int, data: Path, target: str | None) -> None:
        from app.packing import spawn  # not needed by the other commands

        for version in (a, b):
            repository.folder(name, version)
        request = spawn.CompareRequest(name, (a, b), str(data), str(repository.root), target)
        for line in spawn.run(request, settings.packing_timeout_s).remarks:
            click.echo(line)


def _looking(models: AppGroup, repository: Repository, settings: Settings) -> None:
    @models.command("list", help="List the models, their versions, and which of them answer.")
    def list_models() -> None:
        pointers = repository.pointers()
        rows = []
        for name in repository.models():
            aliases, staged = pointers.aliases.get(name, {}), pointers.staged.get(name, ())
            states = {version: _on_disk(repository, name, version) for version in repository.versions(name)}
            sound = [version for version, (_, runtime) in states.items() if runtime is not None]
            roles = dict.fromkeys(staged, "staged") | {pointers.chosen(name, sound): "answers"}
            for version, (state, runtime) in states.items():
                named = ",".join(sorted(alias for alias, v in aliases.items() if v == version)) or "-"
                marked = name + " *" * (name == pointers.default)
                rows.append((marked, str(version), named, state, runtime or "-", roles.get(version, "-")))
        _print_table(("model", "version", "aliases", "state", "runtime", "role"), rows)
        _print_named_in_vain(repository, settings)
        _print_problems(repository)

    @models.command("show", help="Show the signature, examples, environment and hashes of a version.")
    @click.argument("name")
    @click.argument("version", type=int, required=False)
    def show(name: str, version: int | None) -> None:
        manifest = repository.manifest(name, _version_or_chosen(repository, name, version))
        # The signature holds the inputs and the outputs, and the proof says what is served.
        described = {key: value for key, value in describe(manifest).items() if key not in ("inputs", "outputs")}
        document = {"name": manifest.model, "version": manifest.version, **described}
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
                    click.echo(f"{model} version {version}: {State.AVAILABLE.value}")
                except RetortError as error:
                    failed += 1
                    click.echo(f"{model} version {version}: {State.FAILED.value} ({error.detail})", err=True)
        if failed:
            raise click.exceptions.Exit(1)

    @models.command("history", help="Show who changed what of a model, and which version answered then.")
    @click.argument("name")
    def history(name: str) -> None:
        rows = [(c.when, c.who, c.what, str(c.after or "-")) for c in repository.history(name)]
        _print_table(("when", "who", "what", "answers"), rows)


def _choosing(models: AppGroup, repository: Repository, settings: Settings) -> None:
    def say(line: str) -> None:
        click.echo(line)
        if servers := _servers(repository):
            click.echo(f"for {_named(servers)} to take it: flask models reload")

    @models.command("use", help="Have VERSION, or the newest, answer where no version is named.")
    @click.argument("name")
    @click.argument("version", metavar=f"VERSION|{NEWEST}")
    def use(name: str, version: str) -> None:
        if version != NEWEST and not version.isdecimal():
            raise click.BadParameter(f"{version!r} is neither a version nor {NEWEST!r}", param_hint="VERSION")
        if version != NEWEST:
            state, runtime = _on_disk(repository, name, int(version))
            if runtime is None and int(version) in repository.versions(name):
                raise click.ClickException(f"{name} version {version} cannot answer: {state}")
        repository.use(name, None if version == NEWEST else int(version))
        chosen = repository.pointers().chosen(name, repository.versions(name))
        say(f"{name} version {chosen} answers" + (", and each newer one that is added" if version == NEWEST else ""))

    @models.command("rollback", help="Have the version answer that did before.")
    @click.argument("name")
    def rollback(name: str) -> None:
        say(f"{name} version {repository.roll_back(name)} answers")

    @models.command("alias", help="Have ALIAS name VERSION; with --remove, take it away.")
    @click.argument("name")
    @click.argument("alias")
    @click.argument("version", type=int, required=False)
    @click.option("--remove", is_flag=True, help="Take the alias away.")
    def alias_version(name: str, alias: str, version: int | None, remove: bool) -> None:
        if remove == (version is not None):
            raise click.UsageError("give either a version or --remove")
        repository.set_alias(name, alias, version)
        say(f"{name} has no alias {alias}" if version is None else f"{alias} is {name} version {version}")

    @models.command("default", help="Put a model behind /predict.")
    @click.argument("name")
    def default(name: str) -> None:
        repository.set_default(name)
        say(f"{name} is behind /predict")

    @models.command("reload", help="Have the servers that run on this machine take what has changed.")
    def reload() -> None:
        _print_problems(repository)
        servers = _servers(repository)
        if not servers:
            raise click.ClickException(
                f"no server of {repository.root} runs on this machine that {os.environ.get('USER', 'this user')} may "
                "signal; elsewhere, send SIGHUP to the server's first process"
            )
        for server, its in servers:
            workers = server.reload(RELOADED_WITHIN_S)
            if workers is None:
                raise click.ClickException(
                    f"the server at {its.url} (process {server.pid}) still answers with some of its old workers"
                )
            click.echo(f"the server at {its.url} (process {server.pid}) has reloaded: {workers} new workers")

    @models.command("remove", help="Remove a version.")
    @click.argument("name")
    @click.argument("version", type=int)
    def remove(name: str, version: int) -> None:
        repository.remove(name, version)
        click.echo(f"{name} version {version} removed")
        for server, its in _servers(repository):
            if _serves(its, name, version):
                click.echo(
                    f"the server at {its.url} (process {server.pid}) serves it until it is told otherwise: "
                    "flask models reload"
                )


def _version_or_chosen(repository: Repository, name: str, version: int | None) -> int:
    """A version, or the one that answers where none is given.

    Raises:
        ModelNotFound, VersionNotFound: naming those there are.
    """
    versions = repository.versions(name)
    number = version or repository.pointers().chosen(name, versions) or max(versions, default=0)
    repository.folder(name, number)
    return number


def _print_packed(
    repository: Repository, settings: Settings, name: str, version: int | None, remarks: Sequence[str]
) -> None:
    click.echo(f"{name} version {version} packed")
    for remark in remarks:
        click.echo(f"  {remark}")
    if version is not None:
        for line in _next_steps(repository, settings, name, version):
            click.echo(line)


def _next_steps(repository: Repository, settings: Settings, name: str, version: int) -> list[str]:
    """How to ask the version that was just packed, and how a server takes it."""
    chosen = repository.pointers().chosen(name, repository.versions(name))
    lines = []
    if chosen != version:
        lines.append(f"version {chosen} answers; for this one to: flask models use {name} {version}")
    servers = _servers(repository)
    lines.append(f"for {_named(servers)} to take it: flask models reload" if servers else "to serve it: make serve")
    url = (servers[0][1] if servers else settings).url
    path = f"/models/{name}/predict" if chosen == version else f"/models/{name}/versions/{version}/predict"
    examples = repository.manifest(name, version).examples
    sent = shlex.quote(msgspec.json.encode(examples[0].instance).decode()) if examples else ""
    if 0 < len(sent) <= MAX_CURL_CHARS:
        lines.append(f"to ask it: curl {url}{path} -d {sent}")
    else:
        lines.append(f"to ask it: {url}/docs has an example")
    return lines


def _servers(repository: Repository) -> list[tuple[RunningServer, Settings]]:
    """The servers of this repository that run on this machine."""
    found = []
    for server in running_servers():
        try:
            its = Settings.from_environ(server.environ)
        except InvalidSettings:
            continue
        if (server.folder / its.models_dir).resolve() == repository.root.resolve():
            found.append((server, its))
    return found


def _named(servers: Sequence[tuple[RunningServer, Settings]]) -> str:
    return " and ".join(f"the server at {its.url} (process {server.pid})" for server, its in servers)


def _serves(its: Settings, name: str, version: int) -> bool:
    """Whether a server says that it serves a version; True where it does not answer."""
    host, _, path = its.url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=ASKED_WITHIN_S)
    try:
        connection.request("GET", f"/{path}/models".replace("//", "/"))
        listed = msgspec.json.decode(connection.getresponse().read())["models"]
    except (OSError, http.client.HTTPException, msgspec.DecodeError, KeyError, TypeError):
        return True
    finally:
        connection.close()
    served = (entry for model in listed if model["name"] == name for entry in model["versions"])
    return any(entry["version"] == version and entry["state"] == State.AVAILABLE.value for entry in served)


class _Logged:
    """Progress in the log: only the sentences, not each stage."""

    def line(self, text: str) -> None:
        """Log a sentence."""
        log.warning("%s", text)

    def stage(self, stage: Stage) -> None:
        """Do nothing."""


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


def _on_disk(repository: Repository, name: str, version: int) -> tuple[str, str | None]:
    """The state that can be told without loading anything, and the runtime; None where it FAILED."""
    from app.storage.verification import verify_files

    try:
        manifest = repository.manifest(name, version)
        verify_files(repository.folder(name, version), manifest)
    except RetortError as error:
        return f"{State.FAILED.value} ({error.detail[:MAX_SHOWN_CHARS]})", None
    return State.VERIFIED.value, manifest.runtime


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    for line in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
