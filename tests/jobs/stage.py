"""The service with example models, and a worker of jobs in this process."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from app.jobs.worker import JobWorker
from app.settings import Settings

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
PENGUINS = json.loads((MODELS / "penguins" / "1" / "manifest.json").read_text("utf-8"))
NAMES = [each["name"] for each in PENGUINS["signature"]["inputs"]]
RECORDS: list[dict[str, Any]] = [each["instance"] for each in PENGUINS["examples"]]


def settings(folder: Path, **others: Any) -> Settings:
    return Settings(models_dir=MODELS, instance_dir=folder / "instance", access_log=False, **others)


def penguins(rows: int, *more: str) -> bytes:
    """Return a CSV of penguins, each with a number, and these further lines."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *NAMES])
    for row in range(rows):
        writer.writerow([row, *RECORDS[row % len(RECORDS)].values()])
    return (text.getvalue() + "".join(f"{line}\n" for line in more)).encode()


def work(at: Settings, *, clean: bool = False) -> None:
    """Do all waiting jobs, in this process."""
    worker = JobWorker(at, processes=1)
    try:
        worker._store.prepare()
        while worker.look():
            pass
        if clean:
            worker.clean()
    finally:
        worker._queue.close()
        worker._store.close()
