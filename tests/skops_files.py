"""Write files of skops. Importing it takes as long as hundreds of quick tests: tests that use it are marked `slow`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def skops_dump(estimator: Any, path: Path) -> None:
    """Write an estimator to a file."""
    path.write_bytes(skops_dumps(estimator))


def skops_dumps(estimator: Any) -> bytes:
    """Return the content of the file of an estimator."""
    import skops.io

    content: bytes = skops.io.dumps(estimator)
    return content
