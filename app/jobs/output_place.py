"""Refuse an output that cannot be written, or must not be, before anything is scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.errors import ScoringRefused
from app.jobs.locations import Source, is_url, require_answer

NOT_NEW = "is there already: a folder of output must be new or empty"


def place_of(output: str) -> str:
    """Return where an output is written: for a symbolic link, the file or the folder that it names."""
    if is_url(output) or not Path(output).is_symlink():
        return output
    return f"{Path(output).resolve()}{'/' * output.endswith('/')}"


def require_place(output: str, location: str, sources: Sequence[Source]) -> None:
    """Check the place of an output.

    Args:
        output: A path or a URL; with a slash at its end a folder.
        location: That of the input, as it was given.
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
    whole = path.resolve()
    if any(not is_url(source.name) and Path(source.name).resolve() == whole for source in sources):
        raise ScoringRefused(f"{output} is the input")
    folder = Path(location)
    if location and not is_url(location) and folder.is_dir() and whole.is_relative_to(folder.resolve()):
        raise ScoringRefused(f"{output} lies in the input, {location}: the next run would read it; name another folder")


def require_new(output: str) -> None:
    """Refuse a folder of output that is there and has files.

    Raises:
        ScoringRefused: It is.
    """
    path = Path(output)
    if not is_url(output) and output.endswith("/") and path.exists() and any(path.iterdir()):
        raise ScoringRefused(f"{output} {NOT_NEW}")
