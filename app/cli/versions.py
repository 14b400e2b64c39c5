"""`flask models list`, `show`, `verify` and `history`; `use`, `rollback`, `alias`, `default`, `reload` and `remove`."""

from __future__ import annotations

import json
import os
from typing import Any

import click
import msgspec

from app.cli.group import context, models, print_table, print_warnings, reload_hint, servers_of, wrong_settings
from app.core.catalogue import describe
from app.errors import ModelNotFound, RetortError
from app.runtime.policy import State
from app.storage.choices import NEWEST

LINE_CHARS = 160
RELOAD_TIMEOUT_S = 60.0


@models.command("list")
def list_models() -> None:
    """List the models, their versions, and which of them answer."""
    repository = context().repository
    pointers = repository.pointers()
    rows = []
    for name in repository.models():
        aliases, staged = pointers.aliases.get(name, {}), pointers.staged.get(name, ())
        states = {version: context().state_on_disk(name, version) for version in repository.versions(name)}
        sound = [version for version, (_, runtime) in states.items() if runtime is not None]
        roles = dict.fromkeys(staged, "staged") | {pointers.chosen(name, sound): "answers"}
        for version, (state, runtime) in states.items():
            named = ",".join(sorted(alias for alias, v in aliases.items() if v == version)) or "-"
            marked = name + " *" * (name == pointers.default)
            rows.append((marked, str(version), named, state, runtime or "-", roles.get(version, "-")))
    print_table(("model", "version", "aliases", "state", "runtime", "role"), rows)
    print_warnings([*wrong_settings(repository, context().settings), *repository.problems()])


@models.command("show")
@click.argument("name")
@click.argument("version", type=int, required=False)
@click.option(
    "--json", "as_json", is_flag=True, help="Print everything, the counts of the histograms too, on one line."
)
def show(name: str, version: int | None, as_json: bool) -> None:
    """Show the signature, examples, environment and hashes of a version."""
    manifest = context().repository.manifest(name, context().version_or_chosen(name, version))
    # The signature already has the inputs and the outputs.
    described = {key: value for key, value in describe(manifest).items() if key not in ("inputs", "outputs")}
    document = {"name": manifest.model, "version": manifest.version, **described}
    encoded = msgspec.json.encode(document)
    click.echo(encoded.decode() if as_json else _lay_out(_without_counts(msgspec.json.decode(encoded))))


def _without_counts(document: dict[str, Any]) -> dict[str, Any]:
    """Remove the counts of the profile's histograms from a description, and return it."""
    profile = document.get("profile", {})
    for distribution in (*profile.get("inputs", {}).values(), profile.get("prediction", {})):
        distribution.pop("counts", None)
    return document


def _lay_out(value: Any, indent: int = 0, before: str = "") -> str:
    """Return JSON for people: a value stands on one line if it fits."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (indent and indent + len(before) + len(line) < LINE_CHARS):
        return before + line
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    members = value.items() if isinstance(value, dict) else [(None, element) for element in value]
    margin = " " * (indent + 2)
    parts = [
        margin + _lay_out(member, indent + 2, "" if name is None else f"{json.dumps(name, ensure_ascii=False)}: ")
        for name, member in members
    ]
    return f"{before}{opened}\n" + ",\n".join(parts) + f"\n{' ' * indent}{closed}"


@models.command("verify")
@click.argument("name", required=False)
def verify(name: str | None) -> None:
    """Load and prove each version, in a process of its own."""
    from app.packing import spawn  # not needed by the other commands

    repository = context().repository
    if name is not None and not repository.versions(name):
        raise ModelNotFound(name, repository.models())
    failed = 0
    for model in [name] if name else repository.models():
        for version in repository.versions(model):
            request = spawn.CheckRequest(model, version, str(repository.root))
            try:
                spawn.run(request, context().settings.packing_timeout_s)
                click.echo(f"{model} version {version}: {State.AVAILABLE.value}")
            except RetortError as error:
                failed += 1
                click.echo(f"{model} version {version}: {State.FAILED.value} ({error.detail})", err=True)
    if failed:
        raise click.exceptions.Exit(1)


@models.command("history")
@click.argument("name")
def history(name: str) -> None:
    """Show who changed what of a model, and which version answered then."""
    rows = [(c.when, c.who, c.what, str(c.after or "-")) for c in context().repository.history(name)]
    print_table(("when", "who", "what", "answers"), rows)


def _print_change(line: str) -> None:
    """Print a change of the repository, and how to make running servers take it."""
    click.echo(line)
    if servers := servers_of(context().repository):
        click.echo(reload_hint(servers))


@models.command("use")
@click.argument("name")
@click.argument("version", metavar=f"VERSION|{NEWEST}")
def use(name: str, version: str) -> None:
    """Let VERSION, or always the newest, answer requests that name no version."""
    repository = context().repository
    if version != NEWEST and not version.isdecimal():
        raise click.BadParameter(f"{version!r} is neither a version nor {NEWEST!r}", param_hint="VERSION")
    if version != NEWEST:
        state, runtime = context().state_on_disk(name, int(version))
        if runtime is None and int(version) in repository.versions(name):
            raise click.ClickException(f"{name} version {version} cannot answer: {state}")
    repository.use(name, None if version == NEWEST else int(version))
    chosen = repository.pointers().chosen(name, repository.versions(name))
    later = ", and each newer one that is added" if version == NEWEST else ""
    _print_change(f"{name} version {chosen} answers{later}")


@models.command("rollback")
@click.argument("name")
def rollback(name: str) -> None:
    """Let the version answer that answered before."""
    _print_change(f"{name} version {context().repository.roll_back(name)} answers")


@models.command("alias")
@click.argument("name")
@click.argument("alias")
@click.argument("version", type=int, required=False)
@click.option("--remove", is_flag=True, help="Remove the alias.")
def alias_version(name: str, alias: str, version: int | None, remove: bool) -> None:
    """Let ALIAS stand for VERSION; with --remove, remove it."""
    if remove == (version is not None):
        raise click.UsageError("give either a version or --remove")
    context().repository.set_alias(name, alias, version)
    _print_change(f"{name} has no alias {alias}" if version is None else f"{alias} is {name} version {version}")


@models.command("default")
@click.argument("name")
def default(name: str) -> None:
    """Put a model behind /predict."""
    context().repository.set_default(name)
    _print_change(f"{name} is behind /predict")


@models.command("reload")
def reload() -> None:
    """Reload the servers on this machine, so that they take what has changed."""
    print_warnings(context().repository.problems())
    servers = servers_of(context().repository)
    if not servers:
        raise click.ClickException(
            f"no server of {context().repository.root} runs on this machine that "
            f"{os.environ.get('USER', 'this user')} may signal; elsewhere, send SIGHUP to the server's first process"
        )
    for server in servers:
        workers = server.process.reload(RELOAD_TIMEOUT_S)
        if workers is None:
            raise click.ClickException(f"{server} still answers with some of its old workers")
        click.echo(f"{server} has reloaded: {workers} new worker{'s' * (workers != 1)}")


@models.command("remove")
@click.argument("name")
@click.argument("version", type=int)
def remove(name: str, version: int) -> None:
    """Remove a version."""
    repository = context().repository
    versions = repository.versions(name)
    before = repository.pointers().chosen(name, versions)
    repository.remove(name, version)
    click.echo(f"{name} version {version} removed")
    after = repository.pointers().chosen(name, [left for left in versions if left != version])
    if after not in (None, before):
        click.echo(f"{name} version {after} answers")
    for server in servers_of(repository):
        if server.serves(name, version):
            click.echo(f"{server} serves it until it is reloaded: flask models reload")
