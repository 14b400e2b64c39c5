"""The answer of a model, independent of the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.signature.batch import Outputs, json_outputs
from app.signature.watch import NO_WARNINGS, Warnings
from app.storage.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Answer:
    """Predictions of one model version.

    `outputs` holds one array by output name; axis 0 is the instance. `warnings` lists values that are new to the model.
    """

    outputs: Outputs
    classes: Sequence[object] | None
    model: str
    version: int
    warnings: Warnings = NO_WARNINGS

    @classmethod
    def of(cls, manifest: Manifest, outputs: Outputs, warnings: Warnings) -> Answer:
        """Return the answer of this version."""
        return cls(outputs, manifest.signature.classes, manifest.model, manifest.version, warnings)

    def values(self) -> dict[str, list[Any]]:
        """Return the outputs as JSON values, one for each instance."""
        return json_outputs(self.outputs)
