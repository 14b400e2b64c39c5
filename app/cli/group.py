"""The group `flask models`, functions that commands share, the running servers, and `flask settings`."""

from __future__ import annotations

import functools
import http.client
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, Self, TypeVar

import click
import msgspec
from flask import current_app
from flask.cli import AppGroup, with_appcontext

from app.errors import InvalidSettings, RetortError
from app.runtime.policy import State
from app.server.running import RunningServer, running_servers
from app.settings import MODELS_DIR, Settings
from app.settings.env_files import read_env_files
from app.settings.table import table
from app.storage.keys import KeySource
from app.storage.repository import Repository, strays
from app.storage.verification import verify_files

P = ParamSpec("P")
T = TypeVar("T")

EXTENSION = "retort_cli"
"""The key of the `Context` in `app.extensions`."""

MAX_REASON_CHARS = 200
RESPONSE_TIMEOUT_S = 2.0
LINE_EVERY_S = 10.0
ERASE_LINE = "\r\033[K"


class RetortGroup(AppGroup):
    """A group of commands that report errors in one sentence on standard error, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors of Retort and of the file system into click's."""
        return reported(super().invoke)(ctx)


def reported(command: Callable[P, T]) -> Callable[P, T]:
    """Decorate a command: errors of Retort and of the file system become click's, in one sentence."""

    @functools.wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> T:
        try:
            return command(*args, **options)
        except RetortError as error:
            raise click.ClickException(error.detail) from None
        except OSError as error:
            raise click.ClickException(
                f"{error.filename}: {error.strerror}" if error.filename else str(error)
            ) from None

    return run


models = RetortGroup("models", help="Pack, list, choose, compare, verify and remove models.")


@dataclass(frozen=True, slots=True)
class Context:
    """The repository, the settings and the API keys that the commands of an application work with."""

    repository: Repository
    settings: Settings
    keys: KeySource

    def version_or_chosen(self, name: str, version: int | None) -> int:
        """Return the version that was given, else the one that answers.

        Raises:
            ModelNotFound, VersionNotFound: the error names the existing ones.
        """
        versions = self.repository.versions(name)
        number = version or self.repository.pointers().chosen(name, versions) or max(versions, default=0)
        self.repository.folder(name, number)
        return number

    def state_on_disk(self, name: str, version: int) -> tuple[str, str | None]:
        """Check the files of a version without loading it.

        Returns:
            The state, with the reason if it is FAILED; and the runtime, None if it is FAILED.
        """
        try:
            manifest = self.repository.manifest(name, version)
            verify_files(self.repository.folder(name, version), manifest)
        except RetortError as error:
            return f"{State.FAILED.value} ({error.detail[:MAX_REASON_CHARS]})", None
        return State.VERIFIED.value, manifest.runtime


def context() -> Context:
    """Return the context of the application whose command runs."""
    current: Context = current_app.extensions[EXTENSION]
    return current


def wrong_settings(repository: Repository, settings: Settings) -> list[str]:
    """Return a sentence if the settings name a folder of models, or a default model, that does not exist."""
    if settings.models_dir != MODELS_DIR and not settings.models_dir.is_dir():
        return [f"RETORT_MODELS_DIR: there is no folder {settings.models_dir}, so that there are no models"]
    default, existing = settings.default_model, repository.models()
    if default in ("", *existing):
        return []
    if settings.development and default in [name for _, name in strays(repository)]:  # the server packs it at start
        return []
    return [f"RETORT_DEFAULT_MODEL: there is no model {default!r}; there are: {', '.join(existing) or 'none'}"]


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings on standard error."""
    for line in lines:
        click.echo(f"Warning: {line}", err=True)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns that are as wide as their widest cell."""
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    for line in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


class ProgressLine:
    """Progress on standard error: one line that changes on a terminal, else a new line every ten seconds."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._began_s = self._shown_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_terminal:
            click.echo(ERASE_LINE, nl=False, err=True)

    def line(self, text: str) -> None:
        """Print a sentence that the next progress does not erase."""
        click.echo(f"{ERASE_LINE if self._on_terminal else ''}{text}", err=True)

    def _show(self, text: str, now_s: float) -> None:
        if self._on_terminal:
            columns = shutil.get_terminal_size().columns
            click.echo(f"{ERASE_LINE}{text[: columns - 1]}", nl=False, err=True)
        elif now_s - self._shown_s >= LINE_EVERY_S:
            click.echo(text, err=True)
        else:
            return
        self._shown_s = now_s


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and its settings. Its text has its URL and its process."""

    process: RunningServer
    settings: Settings

    def __str__(self) -> str:
        return f"the server at {self.settings.url} (process {self.process.pid})"

    def serves(self, name: str, version: int) -> bool:
        """Ask the server whether it serves a version; return True if it does not answer."""
        host, _, path = self.settings.url.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host, timeout=RESPONSE_TIMEOUT_S)
        try:
            connection.request("GET", f"/{path}/models".replace("//", "/"))
            listed = msgspec.json.decode(connection.getresponse().read())["models"]
        except (OSError, http.client.HTTPException, msgspec.DecodeError, KeyError, TypeError):
            return True
        finally:
            connection.close()
        served = (entry for model in listed if model["name"] == name for entry in model["versions"])
        return any(entry["version"] == version and entry["state"] == State.AVAILABLE.value for entry in served)


def servers_of(repository: Repository) -> list[Server]:
    """Return the servers of a repository that this user may signal."""
    servers = []
    for process in running_servers():
        try:
            settings = Settings.from_environ(process.environ)
        except InvalidSettings:
            continue
        if (process.folder / settings.models_dir).resolve() == repository.root.resolve():
            servers.append(Server(process, settings))
    return servers


def other_settings(settings: Settings, servers: Iterable[Server]) -> list[str]:
    """Return a sentence for each server with other settings, because it was started in another environment."""
    ours = table(settings, {})
    sentences = []
    for server in servers:
        pairs = zip(ours, table(server.settings, {}), strict=True)
        different = [f"{its.env}={its.value}" for our, its in pairs if its.value != our.value]
        if different:
            sentences.append(f"{server} has other settings: {' '.join(different)}")
    return sentences


def reload_hint(servers: list[Server]) -> str:
    """Return a sentence that says how to make these servers take a change of the repository."""
    return f"for {' and '.join(map(str, servers))} to take it: flask models reload"


@click.command("settings")
@with_appcontext
def show_settings() -> None:
    """Show every setting, its value and where it came from; and what a running server has else."""
    settings, repository = context().settings, context().repository
    lines = table(settings, os.environ, read_env_files())
    print_table(("name", "value", "unit", "from"), [(s.env, s.value, s.unit, s.source) for s in lines])
    print_warnings([*wrong_settings(repository, settings), *other_settings(settings, servers_of(repository))])
