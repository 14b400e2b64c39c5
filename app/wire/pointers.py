"""The places of errors in bodies whose instances stand elsewhere than the model gets them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from app.errors import FieldError, InvalidInstances
from app.signature.field_errors import escaped, shown


def refused(pointer: str, detail: str, *value: object) -> InvalidInstances:
    """The refusal of one place, and of what stands there."""
    return InvalidInstances([FieldError(pointer, detail, *map(shown, value))], 1)


def moved(error: InvalidInstances, pointer: str, place: Callable[[str, int], str]) -> InvalidInstances:
    """The same errors, those of cells `<pointer>/<row>/<position>` at the place where they came from."""
    cell = re.compile(rf"{re.escape(pointer)}/(\d+)/(\d+)(.*)", re.DOTALL)
    found = [(each, cell.fullmatch(each.pointer)) for each in error.errors]
    errors = [replace(each, pointer=place(at[1], int(at[2])) + at[3]) if at else each for each, at in found]
    return InvalidInstances(errors, error.total)


def transposed(error: InvalidInstances, names: Sequence[str], pointer: str) -> InvalidInstances:
    """The same errors, each where it stands in the columns that the rows came from."""
    return moved(error, pointer, lambda row, at: f"{pointer}/{escaped(names[at])}/{row}")
