"""Prove that a loaded model still gives the predictions that packing recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from app.errors import InvalidInstances, LoadingFailed, RetortError
from app.runtime.environment import changed, differences
from app.runtime.servable import Servable
from app.signature import Signature
from app.signature.batch import Batch, PredictRequest, json_outputs
from app.signature.watch import Watch
from app.storage.manifest import Manifest, Recorded

RELATIVE_TOLERANCE = 1e-9
ABSOLUTE_TOLERANCE = 1e-12


class InstanceValidator(Protocol):
    """A validator of instances. Implemented by `app.signature.validator.Validator`."""

    signature: Signature
    """The signature, completed with the server's settings."""
    watch: Watch | None
    """Finds accepted values that are new to the model; None if it has nothing to watch."""
    max_instances: int
    """The largest number of instances in one request."""

    def validate(self, instances: Sequence[Any], pointer: str = "#", single: bool = False) -> Batch:
        """Return the batch of these instances, or raise InvalidInstances."""

    def require_short_texts(self, batch: Batch, body_bytes: int) -> None:
        """Refuse a batch whose texts are too long together for a body of this length."""

    def accepted(self, instances: Sequence[Any]) -> Batch | None:
        """Like `validate`, but return None if a field is bad, without looking for the reason."""

    def look_acceptable(self, instances: Sequence[Any]) -> list[bool]:
        """Return for each instance whether all of its fields pass the cheap rules."""

    def decode(self, body: bytes) -> PredictRequest | None:
        """Return the batch of a JSON document; None if it needs the slow path."""


def same(recorded: Any, got: Any) -> bool:
    """Return whether two JSON values are equal: floats within 1e-9 relative or 1e-12 absolute, all else exactly."""
    if isinstance(recorded, list) and isinstance(got, list):
        return len(recorded) == len(got) and all(map(same, recorded, got))
    types = {type(recorded), type(got)}
    if float in types and types <= {int, float}:
        return math.isclose(recorded, got, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    return type(recorded) is type(got) and bool(recorded == got)


def prove(servable: Servable, validator: InstanceValidator, manifest: Manifest) -> None:
    """Run the recorded examples as one batch and compare the predictions.

    Raises:
        LoadingFailed: the model fails or gives other predictions; the message has the first difference and the library
            versions that changed.
    """
    if not manifest.examples:
        return
    names = tuple(dict.fromkeys(name for example in manifest.examples for name in example.outputs))
    try:
        # One by one, because the limit of instances in a request does not apply here.
        batch = Batch.joined([validator.validate([example.instance]) for example in manifest.examples], requests=0)
        outputs = json_outputs(servable.run(batch, names))
    except RetortError as error:
        raise LoadingFailed(f"its recorded examples are not accepted: {error.detail}") from None
    except (Exception, SystemExit) as error:  # a model may raise anything; SystemExit would end the worker
        why = advice(manifest)
        raise LoadingFailed(f"it fails on its recorded examples ({type(error).__name__}: {error}); {why}") from error
    for name in names:
        got = outputs[name] if isinstance(outputs.get(name), list) else []
        for position, example in enumerate(manifest.examples):
            now = got[position] if position < len(got) else "nothing"
            if name in example.outputs and not same(example.outputs[name], now):
                raise LoadingFailed(
                    f"its {name} of recorded example {position} was {_short(example.outputs[name])}, is {_short(now)}; "
                    + advice(manifest)
                )


def prove_recorded(servable: Servable, validator: InstanceValidator, manifest: Manifest, recorded: Recorded) -> int:
    """Run the recorded rows as one batch with other libraries than packing used, and compare the outputs.

    Rows that the server's settings refuse never reach the model and are left out.

    Returns:
        The number of compared rows.

    Raises:
        LoadingFailed: the model fails or gives other answers; the message has the first difference, both versions of
            each library, and advice.
    """
    batches, kept = [], []
    for position, instance in enumerate(recorded.instances):
        try:
            batches.append(validator.validate([instance]))
            kept.append(position)
        except InvalidInstances:
            continue
    if not kept:
        return 0
    names = tuple(recorded.outputs)
    try:
        outputs = json_outputs(servable.run(Batch.joined(batches, requests=0), names))
    except (Exception, SystemExit) as error:  # a model may raise anything; SystemExit would end the worker
        failure = (
            f"with the installed libraries it fails on its recorded rows ({type(error).__name__}: {_short(error)})"
        )
        raise LoadingFailed(f"{failure}; {advice(manifest)}") from error
    for name in names:
        expected = [recorded.outputs[name][position] for position in kept]
        wrong = [
            place for place, (was, now) in enumerate(zip(expected, outputs[name], strict=True)) if not same(was, now)
        ]
        if wrong:
            place = wrong[0]
            raise LoadingFailed(
                f"with the installed libraries its {name} is another for {len(wrong)} of {len(kept)} recorded rows, "
                f"{_short(outputs[name][place])} instead of {_short(expected[place])}; {advice(manifest)}"
            )
    return len(kept)


def advice(manifest: Manifest) -> str:
    """Return the end of a sentence: which library versions changed, and how to serve the model anyway."""
    what_to_do = ": install those of packing to serve it, or train and save it with those that are installed"
    return differences(manifest.environment) + (what_to_do if changed(manifest.environment) else "")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:80] + "…"
