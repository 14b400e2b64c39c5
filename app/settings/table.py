"""The table of the settings, with their values and sources, for `flask settings` and the documentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from app.settings import Settings, variable


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One row of the settings table, for `flask settings` and the documentation."""

    env: str
    value: str
    default: str
    unit: str
    prose: str
    source: str


def table(
    settings: Settings, environ: Mapping[str, str], in_files: Mapping[str, str] | None = None
) -> list[SettingLine]:
    """Return every setting with its value and its source. Secrets are masked.

    `environ` is the environment that they were read from, with the variables of `.env` and `.flaskenv` (`in_files`).
    """
    lines = []
    for f in dataclasses.fields(settings):
        env = variable(f.name)
        value = _shown(getattr(settings, f.name))
        lines.append(
            SettingLine(
                env=env,
                value="***" if f.metadata["secret"] and value else value,
                default=_shown(f.default),
                unit=f.metadata["unit"],
                prose=f.metadata["prose"],
                source=_source(environ.get(env, ""), (in_files or {}).get(env)),
            )
        )
    return lines


def _source(value: str, in_file: str | None) -> str:
    if value == "":
        return "default"
    return ".env" if value == in_file else "environment"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(value) if isinstance(value, tuple) else str(value)
