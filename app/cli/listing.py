"""`flask models list`, `show`, `verify` and `history`."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from app.cli.group import context, models, print_table, print_warnings, wrong_settings
from app.core.catalogue import describe
from app.errors import ModelNotFound, RetortError
from app.runtime.policy import State

LINE_CHARS = 160


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
    # The signature holds the inputs and the outputs, and the proof says what is served.
    described = {key: value for key, value in describe(manifest).items() if key not in ("inputs", "outputs")}
    document = {"name": manifest.model, "version": manifest.version, **described}
    encoded = msgspec.json.encode(document)
    click.echo(encoded.decode() if as_json else _laid_out(_without_counts(msgspec.json.decode(encoded))))


def _without_counts(document: dict[str, Any]) -> dict[str, Any]:
    """Remove the counts of the profile's histograms from a description, and return it."""
    profile = document.get("profile", {})
    for distribution in (*profile.get("inputs", {}).values(), profile.get("prediction", {})):
        distribution.pop("counts", None)
    return document


def _laid_out(value: Any, indent: int = 0, before: str = "") -> str:
    """Return JSON for people: what fits on a line stands on one."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (indent and indent + len(before) + len(line) < LINE_CHARS):
        return before + line
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    named = value.items() if isinstance(value, dict) else [(None, each) for each in value]
    margin = " " * (indent + 2)
    parts = [
        margin + _laid_out(each, indent + 2, "" if name is None else f"{json.dumps(name, ensure_ascii=False)}: ")
        for name, each in named
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
