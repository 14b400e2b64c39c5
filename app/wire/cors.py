"""Lets pages of other origins read the answers, where a setting asks for it."""

from __future__ import annotations

from flask import Flask

from app.settings import Settings


def register(app: Flask, settings: Settings) -> None:
    """Answers to the origins that are set, or to none."""
    if settings.cors_origins:
        from flask_cors import CORS  # only where a setting asks for it

        CORS(app, origins=list(settings.cors_origins), expose_headers=["X-Request-ID", "Server-Timing"])
