"""The servers of a repository that run on this machine."""

from __future__ import annotations

import http.client
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from app.errors import InvalidSettings
from app.runtime.policy import State
from app.server.running import RunningServer, running_servers
from app.settings import Settings
from app.settings.table import table
from app.storage.repository import Repository

RESPONSE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and its settings. As text: its URL and its process."""

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
    found = []
    for process in running_servers():
        try:
            settings = Settings.from_environ(process.environ)
        except InvalidSettings:
            continue
        if (process.folder / settings.models_dir).resolve() == repository.root.resolve():
            found.append(Server(process, settings))
    return found


def other_settings(settings: Settings, servers: Iterable[Server]) -> list[str]:
    """Return a sentence for each server whose settings are not these: it was started in another environment."""
    here = table(settings, {})
    sentences = []
    for server in servers:
        there = table(server.settings, {})
        others = [f"{its.env}={its.value}" for ours, its in zip(here, there, strict=True) if its.value != ours.value]
        if others:
            sentences.append(f"{server} has other settings: {' '.join(others)}")
    return sentences


def reload_hint(servers: list[Server]) -> str:
    """Return how these servers take a change of the repository."""
    return f"for {' and '.join(map(str, servers))} to take it: flask models reload"
