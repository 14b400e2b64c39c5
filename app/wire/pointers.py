"""Map the pointers of errors to the body, where its instances are not at the validator's places."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from app.errors import FieldError, InvalidInstances
from app.signature.field_errors import escaped, shown


def refused(pointer: str, detail: str, *value: object) -> InvalidInstances:
    """Return the error for one pointer and its value."""
    return InvalidInstances([FieldError(pointer, detail, *map(shown, value))], 1)


def move_pointers(error: InvalidInstances, pointer: str, place: Callable[[str, int], str]) -> InvalidInstances:
    """Return the same errors, with `<pointer>/<row>/<position>` replaced by `place(row, position)`."""
    cell = re.compile(rf"{re.escape(pointer)}/(\d+)/(\d+)(.*)", re.DOTALL)
    found = [(each, cell.fullmatch(each.pointer)) for each in error.errors]
    errors = [replace(each, pointer=place(at[1], int(at[2])) + at[3]) if at else each for each, at in found]
    return InvalidInstances(errors, error.total)


def transpose_pointers(error: InvalidInstances, names: Sequence[str], pointer: str) -> InvalidInstances:
    """Return the same errors, with pointers into the columns that the rows were made of."""
    return move_pointers(error, pointer, lambda row, at: f"{pointer}/{escaped(names[at])}/{row}")
