"""Run the commands of `flask` in this process, without the service that `create_app` makes."""

from __future__ import annotations

from flask import Flask
from flask.testing import FlaskCliRunner

from app import cli
from app.gateway.key_table import key_table
from app.settings import Settings
from app.storage.repository import Repository


def runner(settings: Settings) -> FlaskCliRunner:
    """Return a runner of an application that has only the commands."""
    app = Flask("app")
    cli.register(app, Repository(settings.models_dir), settings, key_table(settings).source)
    return app.test_cli_runner()
