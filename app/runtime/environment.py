"""The library versions that predictions depend on: recorded at packing and compared when a model is loaded."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas", "joblib", "skops", "onnxruntime")


ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Variables that keep libraries from starting threads. Each library reads its own when it is loaded.

OpenMP and BLAS: workers and request threads already use all cores, and pools that spin on the same cores slow each
other down a hundred times. jemalloc (in pyarrow, which pandas imports): no thread may run before the fork.
"""


def environment() -> dict[str, str]:
    """Return the version of Python and of each installed library in `LIBRARIES`."""
    installed = {library: installed_version(library) for library in LIBRARIES}
    return {"python": platform.python_version()} | {name: found for name, found in installed.items() if found}


@cache
def installed_version(library: str) -> str | None:
    """Return the version of an installed library, or None. Each is read from the disk once."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def changed(recorded: Mapping[str, str]) -> list[str]:
    """Return the libraries whose version differs from the recorded one."""
    now = environment()
    return [name for name in recorded if recorded[name] != now.get(name)]


def differences(recorded: Mapping[str, str]) -> str:
    """Return the changed versions as the end of a sentence."""
    now = environment()
    changes = [f"{name} was {recorded[name]}, is {now.get(name, 'not installed')}" for name in changed(recorded)]
    return "since packing, " + "; ".join(changes) if changes else "the library versions are those of packing time"
