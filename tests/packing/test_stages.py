"""Stages are reported through a file to the command that waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.packing.stages import VARIABLE, Stage, current, enter, stage_file_in


def test_the_last_stage_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ: dict[str, str] = {}
    place = stage_file_in(tmp_path, environ)
    assert current(place) is None
    monkeypatch.setenv(VARIABLE, environ[VARIABLE])
    enter("reading")
    enter("comparing", 5, 10)
    assert current(place) == Stage("comparing", 5, 10)
    assert list(tmp_path.iterdir()) == [place]


def test_nothing_is_reported_without_a_waiting_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    enter("reading")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone" / "stage.json"))
    enter("reading")
    assert list(tmp_path.iterdir()) == []
