"""Make the artifacts, Retort's packed versions and the peers' converted ones; reuse them until their sources change."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.cases import ONNX, OURS, OURS_ALL, OURS_UNBATCHED
from benchmarks.servers import ARTIFACTS, BIN, PACKED_AS, ROOT, WORK, repository
from benchmarks.venvs import HERE, python_of

CONVERTED = ("linear", "forest", "table", "digits")
SAMPLES = {"penguins": ["--sample", str(ROOT / "examples" / "penguins.csv"), "--target", "species"]}
Absent = dict[tuple[str, str], str]
"""The reason why a side cannot serve a model. The model `*` means all models."""


def why_not(absent: Absent, side: str, model: str) -> str | None:
    """Return the reason why this side cannot serve this model, or None."""
    return absent.get((side, "*"), absent.get((side, model)))


def prepare(models: Sequence[str], absent: Absent) -> Absent:
    """Train, pack and convert missing files. Return the sides that have nothing to serve, with reasons."""
    trained = _digest([HERE / "models.py", ROOT / "requirements.txt", ROOT / "examples" / "train_penguins.py"])
    missing = [model for model in models if _stale(f"trained-{model}", trained)]
    if missing:
        print("Training the models.", flush=True)
        subprocess.run([sys.executable, "-m", "benchmarks.models", str(ARTIFACTS), *missing], check=True, cwd=ROOT)
    failures: Absent = {}
    rooms = [ROOT / "app" / room for room in ("packing", "runtime", "signature", "storage")]
    packed = trained + _digest([path for room in rooms for path in sorted(room.rglob("*.py"))])
    converted = trained + _digest([HERE / "peers" / ONNX / "convert.py", HERE / "peers" / ONNX / "requirements.txt"])
    for model in models:
        _made(f"trained-{model}", trained)
        name = PACKED_AS.get(model, model)
        if _stale(f"packed-{name}", packed):
            if why := _pack(name):
                failures |= dict.fromkeys([(side, model) for side in (OURS, OURS_ALL, OURS_UNBATCHED)], why)
            else:
                _made(f"packed-{name}", packed)
        if model in CONVERTED and (ONNX, "*") not in absent and _stale(f"converted-{model}", converted):
            if why := _convert(model):
                failures[ONNX, model] = why
            else:
                _made(f"converted-{model}", converted)
    return {**failures, **absent}


def _pack(model: str) -> str | None:
    print(f"Packing {model}, as `flask models add` does.", flush=True)
    shutil.rmtree(repository(model), ignore_errors=True)
    repository(model).mkdir(parents=True)
    argv = [str(BIN / "flask"), "models", "add", str(ARTIFACTS / f"{model}.joblib"), "--name", model]
    env = {**os.environ, "RETORT_MODELS_DIR": str(repository(model))}
    ran = subprocess.run(
        [*argv, *SAMPLES.get(model, [])], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        return f"packing failed: {(ran.stderr or ran.stdout).strip().splitlines()[-1][:300]}"
    for line in ran.stdout.splitlines():
        if "graph" in line:
            print(f"  {line.strip()}", flush=True)
    return None


def _convert(model: str) -> str | None:
    argv = [str(python_of(ONNX)), str(HERE / "peers" / ONNX / "convert.py")]
    argv += [str(ARTIFACTS / f"{model}.joblib"), str(ARTIFACTS / f"{model}.onnx")]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    if ran.returncode:
        return f"skl2onnx did not convert it: {(ran.stderr or ran.stdout).strip().splitlines()[-1][:200]}"
    return None


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _stale(stamp: str, digest: str) -> bool:
    path = WORK / f"{stamp}.stamp"
    return not path.is_file() or path.read_text() != digest


def _made(stamp: str, digest: str) -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / f"{stamp}.stamp").write_text(digest)
