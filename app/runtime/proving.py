"""Is a loaded model still the one that was packed? Its recorded examples are run again and compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from app.errors import LoadingFailed, RetortError
from app.runtime.environment import differences
from app.runtime.servable import Servable
from app.signature.batch import Batch, json_values
from app.storage.manifest import Manifest

RELATIVE_TOLERANCE = 1e-9
ABSOLUTE_TOLERANCE = 1e-12


class Validates(Protocol):
    """Turns instances into a batch, or raises `InvalidInstances`; `app.signature.schema.Validator` does."""

    def validate(self, instances: Sequence[Any], pointer: str = "#", single: bool = False) -> Batch:
        """The batch of these instances."""


def same(recorded: Any, got: Any) -> bool:
    """Whether two JSON values are equal: floats within 1e-9 relative or 1e-12 absolute, everything else exactly."""
    if isinstance(recorded, list) and isinstance(got, list):
        return len(recorded) == len(got) and all(map(same, recorded, got))
    numbers = isinstance(recorded, int | float) and isinstance(got, int | float)
    if numbers and (isinstance(recorded, float) or isinstance(got, float)):
        return math.isclose(recorded, got, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    return type(recorded) is type(got) and bool(recorded == got)


def prove(servable: Servable, validator: Validates, manifest: Manifest) -> None:
    """Runs the recorded examples as one batch.

    Raises:
        LoadingFailed: the model fails on them or gives other predictions than recorded; the sentence names the first
            difference and the library versions that changed.
    """
    if not manifest.examples:
        return
    names = tuple(manifest.examples[0].outputs)
    try:
        batch = validator.validate([example.instance for example in manifest.examples])
        outputs = servable.run(batch, names)
    except RetortError as error:
        raise LoadingFailed(f"its recorded examples are not accepted: {error.detail}") from None
    except Exception as error:  # around run: whatever a model may raise
        why = differences(manifest.environment)
        raise LoadingFailed(f"it fails on its recorded examples ({type(error).__name__}: {error}); {why}") from error
    for name in names:
        got = json_values(outputs[name])
        for position, example in enumerate(manifest.examples):
            if position >= len(got) or not same(example.outputs[name], got[position]):
                now = got[position] if position < len(got) else "nothing"
                raise LoadingFailed(
                    f"its {name} of recorded example {position} was {_short(example.outputs[name])}, is {_short(now)}; "
                    + differences(manifest.environment)
                )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:80] + "…"
