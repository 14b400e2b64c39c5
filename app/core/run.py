"""Run a model once: its exceptions become ModelFailed, and its outputs are checked against the batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from app.errors import DeadlineExceeded, ModelFailed, RetortError
from app.runtime.batching import JoiningServable
from app.runtime.entry import Lease
from app.signature.batch import Batch, Outputs
from app.telemetry import check_deadline, mark_progress

log = logging.getLogger(__name__)


def run(lease: Lease, batch: Batch, names: Sequence[str]) -> Outputs:
    """Return the outputs, each with one entry for each row of the batch. An empty batch does not run the model.

    Raises:
        DeadlineExceeded: the run did not begin in time.
        ModelFailed: the model raised, or its outputs do not fit the batch.
    """
    if batch.rows == 0:
        return {name: np.empty(0) for name in names}
    check_deadline()
    try:
        outputs = lease.servable.run(batch, names)
    except DeadlineExceeded:
        raise
    except (Exception, SystemExit) as error:
        log.exception("model %s version %d raised", lease.manifest.model, lease.manifest.version)
        raise ModelFailed(lease.manifest.model, lease.manifest.version, str(error)) from error
    mark_progress()
    for name in names:
        if outputs[name].ndim == 0 or len(outputs[name]) != batch.rows:
            cause = f"{name} has shape {outputs[name].shape} for a batch of {batch.rows} rows"
            log.error("model %s version %d: %s", lease.manifest.model, lease.manifest.version, cause)
            raise ModelFailed(lease.manifest.model, lease.manifest.version, cause)
    return outputs


def run_each(lease: Lease, asked: Sequence[tuple[Batch, tuple[str, ...]]]) -> list[Outputs | RetortError]:
    """Return for each batch its outputs or the error of its run. A servable that joins requests runs them together."""
    shared: Sequence[Outputs | RetortError | None] = [None] * len(asked)
    if len(asked) > 1 and isinstance(lease.servable, JoiningServable):
        shared = lease.servable.run_each(asked)
        mark_progress()
    return [_run_alone(lease, *each) if found is None else found for each, found in zip(asked, shared, strict=True)]


def _run_alone(lease: Lease, batch: Batch, names: Sequence[str]) -> Outputs | RetortError:
    try:
        return run(lease, batch, names)
    except RetortError as error:
        return error
