"""`flask models use`, `rollback`, `alias`, `default`, `reload` and `remove`."""

from __future__ import annotations

import os

import click

from app.cli.group import context, models, print_warnings
from app.cli.servers import reload_hint, servers_of
from app.storage.choices import NEWEST

RELOAD_TIMEOUT_S = 60.0


def _print_change(line: str) -> None:
    """Print a change of the repository, and how running servers take it."""
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
