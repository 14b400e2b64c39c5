"""The commands `flask models …`, `flask keys …`, `flask score`, `flask jobs …` and `flask settings`."""

from __future__ import annotations

import logging

import click
from flask import Flask
from flask.cli import FlaskGroup

from app.cli import adding, versions  # noqa: F401 (each adds its commands to `models`)
from app.cli.group import EXTENSION, Context, models, show_settings, wrong_settings
from app.cli.keys import keys
from app.cli.scoring import jobs, score
from app.settings import Settings
from app.storage.keys import KeySource
from app.storage.repository import Repository

log = logging.getLogger(__name__)


def register(app: Flask, repository: Repository, settings: Settings, source: KeySource) -> None:
    """Add the commands to `flask`. If a server starts, warn of settings that name something that does not exist."""
    app.extensions[EXTENSION] = Context(repository, settings, source)
    commands = (models, jobs, keys, score, show_settings)
    for command in commands:
        app.cli.add_command(command)
    if (command_context := click.get_current_context(silent=True)) is None:
        for line in wrong_settings(repository, settings):
            log.warning("%s", line)
    elif isinstance(group := command_context.find_root().command, FlaskGroup):  # click suggests names of this group
        group.commands.update({str(command.name): command for command in commands})
