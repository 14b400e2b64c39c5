"""The command that starts each side, as in its own documentation: one worker, no access log, otherwise its defaults."""

from __future__ import annotations

import hashlib
import hmac
import shlex
import sys
from pathlib import Path

from app.storage.keys import PREDICT, SALT_BYTES, StoredKey
from benchmarks.cases import (
    BARE_FLASK,
    BARE_FLASK_GTHREAD,
    BARE_WSGI,
    FLASK,
    LITSERVE,
    MLSERVER,
    ONNX,
    OURS,
    OURS_GTHREAD,
    OURS_HOOKED,
    OURS_LOGGED,
    OURS_OPERATED,
    OURS_UNBATCHED,
    OURS_WITHOUT,
    SHAP,
    TUTORIAL,
)
from benchmarks.measure import KEY, ORIGIN, Launch
from benchmarks.venvs import HERE, VENVS

ROOT = HERE.parent
WORK = HERE / ".work"
ARTIFACTS = WORK / "artifacts"
REPOSITORIES = WORK / "models"
BIN = Path(sys.executable).parent
ARTIFACT_ONLY = frozenset({"knn"})
"""Models that are served without a graph even if they have one."""

BARE = {BARE_WSGI: "wsgi_bare:app", BARE_FLASK: "flask_bare:app", BARE_FLASK_GTHREAD: "flask_bare:app"}

SALT = bytes(SALT_BYTES)
STORED = StoredKey(
    KEY.split("_")[1], "bench", frozenset({PREDICT}), None, SALT, hmac.digest(SALT, KEY.encode(), hashlib.sha256), 0
)
OPERATED = {
    "RETORT_API_KEYS": STORED.entry(),
    "RETORT_LIMIT_REQUESTS": "1000000000/minute",
    "RETORT_LIMIT_ROWS": "1000000000/minute",
}
LOGGED = (OURS_LOGGED, OURS_OPERATED)
VARIANTS = {OURS_HOOKED: "hooked:app", OURS_WITHOUT: "no_interceptors:app"}
"""The service with additional code around it, from `layers/`."""
PACKED_AS = {"table": "forest"}
"""The same artifact under another name; it is packed only once."""


def repository(model: str) -> Path:
    """Return a repository of Retort's with this model alone."""
    return REPOSITORIES / PACKED_AS.get(model, model)


def launch(side: str, model: str, workers: int = 1) -> Launch:
    """Return how to serve this model on this side."""
    peer, folder = VENVS / side / "bin", HERE / "peers" / side
    if side in (TUTORIAL, ONNX, SHAP):
        argv = [str(peer / "uvicorn"), "--app-dir", str(folder), f"{model}:app", "--port", "{port}"]
        argv += ["--no-access-log", "--log-level", "warning", *(["--workers", str(workers)] if workers > 1 else [])]
        return Launch(argv, ARTIFACTS)
    if side == FLASK:
        argv = [str(peer / "gunicorn"), "--bind", "127.0.0.1:{port}", "--pythonpath", str(folder), f"{model}:app"]
        return Launch(argv, ARTIFACTS)
    if side == LITSERVE:
        return Launch([str(peer / "python"), str(folder / f"{model}.py")], ARTIFACTS, {"PORT": "{port}"})
    if side == MLSERVER:
        env = {"MLSERVER_HOST": "127.0.0.1", "MLSERVER_HTTP_PORT": "{port}", "MLSERVER_GRPC_PORT": "{port2}"}
        env |= {"MLSERVER_METRICS_PORT": "{port3}", "PYTHONPATH": str(folder)}
        (WORK / "mlserver").mkdir(parents=True, exist_ok=True)
        return Launch([str(peer / "mlserver"), "start", str(folder)], WORK / "mlserver", env)
    env = {"HOST": "127.0.0.1", "PORT": "{port}", "PATH": f"{VENVS / OURS / 'bin'}:/usr/local/bin:/usr/bin:/bin"}
    env |= {"RETORT_WORKER": "gthread"} if side in (OURS_GTHREAD, BARE_FLASK_GTHREAD) else {}
    if side in BARE:
        argv = ["gunicorn", "--config", str(HERE / "layers" / "gunicorn_conf.py"), "--pythonpath", str(HERE / "layers")]
        return Launch([*argv, BARE[side]], ROOT, env)
    env |= {"RETORT_MODELS_DIR": str(repository(model)), "WEB_CONCURRENCY": str(workers)}
    env |= {"RETORT_RUNTIME": "artifact"} if model in ARTIFACT_ONLY else {}
    env |= {"RETORT_BATCHING": "off"} if side == OURS_UNBATCHED else {}
    env |= {"RETORT_CORS_ORIGINS": ORIGIN, "RETORT_ACCESS_LOG": "on" if side in LOGGED else "off"}
    env |= OPERATED if side == OURS_OPERATED else {}
    argv = web_line((ROOT / "Procfile").read_text())
    if side in VARIANTS:
        argv = [*argv[:-1], "--pythonpath", str(HERE / "layers"), VARIANTS[side]]
    return Launch(argv, ROOT, env)


def web_line(procfile: str) -> list[str]:
    """Return the words of the `web:` line, which `make serve` and platforms run."""
    for line in procfile.splitlines():
        if line.startswith("web:"):
            return shlex.split(line.removeprefix("web:"))
    raise ValueError("Procfile has no web: line")
