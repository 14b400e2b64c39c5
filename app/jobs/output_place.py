"""Check the place of the output before any row is scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.errors import ScoringRefused
from app.jobs.locations import Source, is_url, require_answer

NOT_NEW = "is there already: a folder of output must be new or empty"


def place_of(output: str) -> str:
    """Return the place of an output. A symbolic link is replaced by its target."""
    if is_url(output) or not Path(output).is_symlink():
        return output
    return f"{Path(output).resolve()}{'/' * output.endswith('/')}"


def require_place(output: str, location: str, sources: Sequence[Source]) -> None:
    """Check the place of an output.

    Args:
        output: A path or a URL; a folder if it ends with a slash.
        location: The location of the input, as in the job.
        sources: The files of the input.

    Raises:
        ScoringRefused: The output cannot be written there, or would become a part of the input.
    """
    if is_url(output):
        require_answer(output)
        return
    path, parent = Path(output), Path(output).absolute().parent
    if output.endswith("/") and (not path.absolute().name or path.is_file()):
        raise ScoringRefused(f"{output} {NOT_NEW}")
    if output and not output.endswith("/") and path.is_dir():
        raise ScoringRefused(f"{output} is a folder; with a slash at its end, it gets a file for each part")
    if not parent.is_dir():
        raise ScoringRefused(f"{output} cannot be written: there is no folder {parent}")
    resolved = path.resolve()
    if any(not is_url(source.name) and Path(source.name).resolve() == resolved for source in sources):
        raise ScoringRefused(f"{output} is the input")
    folder = Path(location)
    if location and not is_url(location) and folder.is_dir() and resolved.is_relative_to(folder.resolve()):
        raise ScoringRefused(f"{output} lies in the input, {location}: the next run would read it; name another folder")


def require_new(output: str) -> None:
    """Check that a folder of output is new or empty.

    Raises:
        ScoringRefused: The folder has files.
    """
    path = Path(output)
    if not is_url(output) and output.endswith("/") and path.exists() and any(path.iterdir()):
        raise ScoringRefused(f"{output} {NOT_NEW}")
