"""The process that packs: `python -m app.packing VERB REQUEST RESULT_FILE`, started by `spawn`."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from app.errors import RetortError
from app.packing.spawn import WORK, Result, packing_memory_bytes
from app.packing.supervise import end_like, supervise
from app.storage.repository import Repository


def main(verb: str, request: str, result_file: str) -> None:
    """Run a request, and write its result file in one step."""
    warnings.simplefilter("ignore")
    try:
        result = run(verb, request)
    except ModuleNotFoundError as error:
        reason = f"packing needs {error.name}, which is not installed here: pip install -r requirements.txt"
        result = Result(refused=reason)
    except RetortError as error:
        result = Result(refused=error.detail + _memory_remark(error))
    except MemoryError as error:
        result = Result(refused=f"memory ran out{_memory_remark(error)}")
    except OSError as error:
        result = Result(refused=f"{error.filename}: {error.strerror}" if error.filename else str(error))
    part_file = Path(result_file + ".part")
    try:
        part_file.write_bytes(msgspec.json.encode(result))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(part_file)) from None  # the error of a full disk names no file
    part_file.replace(result_file)


def run(verb: str, request: str) -> Result:
    """Run a request. Import the libraries of models only here, since the supervisor needs none."""
    kind, module = WORK[verb]
    work: Callable[[Any], Result] = getattr(import_module(module), verb)
    return work(msgspec.json.decode(request, type=kind))


def _memory_remark(error: BaseException) -> str:
    """Name the memory limit if it caused the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return f"; packing may take {packing_memory_bytes():,} bytes of memory (RETORT_PACKING_MEMORY_BYTES)"
        cause = cause.__cause__ or cause.__context__
    return ""


def _run_supervised(verb: str, request: str, result_file: str) -> int:
    """Run a request in a supervised child process; return the exit status."""
    models_dir = msgspec.json.decode(request).get("models_dir")
    parent = os.getppid()

    def clean() -> None:
        if models_dir is not None:
            Repository(Path(models_dir)).discard_staging(os.getpgrp())
        if os.getppid() != parent:  # the command has ended and does not read the result
            shutil.rmtree(Path(result_file).parent, ignore_errors=True)

    return supervise(lambda: main(verb, request, result_file), clean, packing_memory_bytes())


if __name__ == "__main__":
    end_like(_run_supervised(*sys.argv[1:]))
