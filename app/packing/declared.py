"""What whoever packs a model says of its inputs, where packing is not to find it out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.signature import Input, Signature


@dataclass(frozen=True, slots=True)
class Declared:
    """What becomes of what is new to the model: numbers `out_of_range`, and `unseen` categories. None: not said."""

    out_of_range: str | None = None
    unseen: str | None = None

    def applied(self, signature: Signature) -> Signature:
        """The signature with this in it; a category that the model cannot cope with stays refused."""
        inputs = tuple(replace(spec, unseen=self.unseen_of(spec)) for spec in signature.inputs)
        return replace(signature, inputs=inputs, out_of_range=self.out_of_range)

    def unseen_of(self, spec: Input) -> str:
        """What becomes of an unseen category of this input."""
        return spec.unseen if self.unseen is None or spec.categories is None or spec.closed else self.unseen


NOTHING = Declared()
