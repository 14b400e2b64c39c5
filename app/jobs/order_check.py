"""Check the columns of a new job. Errors have the same form as those of a refused prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from app.core.answer import column_names
from app.errors import ColumnsMissing, FieldError, ScoringRefused
from app.jobs.input_parts import require_columns_of
from app.jobs.locations import sources_of
from app.signature import Signature
from app.signature.field_errors import escaped, missing, refuse, shown, some
from app.storage.manifest import Manifest


def require_free_names(keep: Sequence[str], manifest: Manifest) -> None:
    """Check that no column to keep has the name of a model output.

    Raises:
        ScoringRefused: A column to keep has the name of an output.
    """
    outputs = column_names(manifest)
    if taken := [name for name in keep if name in outputs]:
        raise ScoringRefused(f"the column {some(taken)} cannot be kept: an output of the model has that name")


def check_columns(path: Path | None, file_name: str, keep: Sequence[str], manifest: Manifest) -> None:
    """Check the columns of an uploaded file.

    Args:
        path: The file; None for a URL, whose columns are not checked here.
        file_name: The client's name for the file.
        keep: The columns to keep.
        manifest: The manifest of the model version.

    Raises:
        InvalidInstances: Columns are missing, or a column to keep has the name of an output.
        ScoringRefused: The file cannot be read.
    """
    outputs = column_names(manifest)
    refuse(
        FieldError(f"#/keep/{at}", f"must not be one of the columns of the answer: {some(outputs)}", shown(name))
        for at, name in enumerate(keep)
        if name in outputs
    )
    if path is None:
        return
    try:
        require_columns_of(sources_of(str(path))[0], manifest.signature, keep)
    except ColumnsMissing as error:
        refuse(_missing(error, keep, manifest.signature))
    except ScoringRefused as error:
        raise ScoringRefused(error.detail.replace(str(path), file_name)) from None


def _missing(error: ColumnsMissing, keep: Sequence[str], signature: Signature) -> Iterator[FieldError]:
    for spec in signature.inputs:
        if spec.name in error.features:
            detail = f"{missing(spec.may_be_missing)}; the file has: {error.there}"
            yield FieldError(f"#/file/{escaped(spec.name)}", detail)
    for at, name in enumerate(keep):
        if name in error.kept:
            yield FieldError(f"#/keep/{at}", f"must be a column of the file, which has: {error.there}", shown(name))
