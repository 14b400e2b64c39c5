"""Predictions for a stream: instances arrive in blocks, and each block is answered alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.core.answer import Answer
from app.core.run import run
from app.errors import DeadlineExceeded, InvalidInstances, ModelFailed, RetortError
from app.runtime.entry import Lease
from app.signature.batch import Batch, Outputs
from app.signature.field_errors import in_row
from app.signature.watch import NO_WARNINGS, Warnings


@dataclass(frozen=True, slots=True)
class PartialAnswer:
    """The answer to one block, in which some instances may be refused.

    `answer` holds the accepted instances in their order. `refused` and `warnings` are by position in the block.
    """

    answer: Answer
    refused: Mapping[int, RetortError]
    warnings: Mapping[int, Warnings]


class PredictionStream:
    """Answers blocks of instances of one request. Holds a lease until `close`."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease.__enter__()
        self.model = lease.manifest.model
        self.version = lease.manifest.version
        self.rows = 0
        """Instances answered so far."""

    @property
    def most_instances(self) -> int:
        """The largest number of instances in one block."""
        return self._lease.validator.max_instances

    def predict(self, instances: Sequence[Any]) -> PartialAnswer:
        """Return the default outputs of the acceptable instances. Errors of single instances are not raised."""
        refused = dict[int, RetortError]()
        kept = dict(enumerate(instances))
        batch, warnings = self._accepted(instances) or self._acceptable(kept, refused)
        try:
            outputs = run(self._lease, batch, self._lease.manifest.signature.defaults)
        except DeadlineExceeded as error:
            refused |= dict.fromkeys(kept, error)
            outputs = self._each_alone({}, refused)
        except ModelFailed:
            outputs = self._each_alone(kept, refused)
        self.rows += len(instances) - len(refused)
        new = {at: warnings[row] for row, at in enumerate(kept) if warnings.get(row)}
        return PartialAnswer(Answer.of(self._lease.manifest, outputs, NO_WARNINGS), refused, new)

    def _accepted(self, instances: Sequence[Any]) -> tuple[Batch, Mapping[int, Warnings]] | None:
        """Return the instances as a batch with the warnings of each row; None if one is not acceptable."""
        with contextlib.suppress(InvalidInstances):  # else it would be the context of later errors
            batch = self._lease.validator.accepted(instances)
            return None if batch is None else (batch, self._news(batch, instances))
        return None

    def _news(self, batch: Batch, instances: Sequence[Any]) -> Mapping[int, Warnings]:
        watch = self._lease.validator.watch
        return {} if watch is None else watch.check_each(batch, lambda row: ("#", in_row(instances[row])))

    def _acceptable(
        self, kept: dict[int, Any], refused: dict[int, RetortError]
    ) -> tuple[Batch, Mapping[int, Warnings]]:
        """Like `_accepted`, but move unacceptable instances from `kept` to `refused` and keep the others.

        Instances that pass the cheap rules are validated together, so that a bad instance costs the others little.
        """
        validator = self._lease.validator
        for position, looks_good in zip([*kept], validator.look_acceptable([*kept.values()]), strict=True):
            if not looks_good:
                self._alone(position, kept, refused)
        if (accepted := self._accepted([*kept.values()])) is not None:
            return accepted
        alone = [each for position in [*kept] if (each := self._alone(position, kept, refused)) is not None]
        batch = Batch.joined([each for each, _ in alone] or [validator.validate([])])
        return batch, {row: each for row, (_, warnings) in enumerate(alone) for each in warnings.values()}

    def _alone(
        self, position: int, kept: dict[int, Any], refused: dict[int, RetortError]
    ) -> tuple[Batch, Mapping[int, Warnings]] | None:
        """Return an instance as a batch of one; if it is not acceptable, move it to `refused` and return None."""
        try:
            # A line of a stream is its own document: pointers begin at the instance.
            batch = self._lease.validator.validate([kept[position]], "#", single=True)
            return batch, self._news(batch, [kept[position]])
        except InvalidInstances as error:
            # Its traceback would keep the whole block in memory.
            refused[position] = error.with_traceback(None)
            del kept[position]
            return None

    def _each_alone(self, kept: Mapping[int, Any], refused: dict[int, RetortError]) -> Outputs:
        """Run each kept instance alone and join the outputs. Move failing instances to `refused`."""
        names = self._lease.manifest.signature.defaults
        found = []
        for position, instance in kept.items():
            try:
                found.append(run(self._lease, self._lease.validator.validate([instance]), names))
            except (ModelFailed, DeadlineExceeded) as error:
                refused[position] = error.with_traceback(None)
        return {name: np.concatenate([each[name] for each in found]) if found else np.empty(0) for name in names}

    def close(self) -> None:
        """Release the lease."""
        self._lease.__exit__(None, None, None)
