"""The verdict on a new version: what it was trained, packed and served with, and on how many rows it is equal."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN_LIBRARIES = ("scikit-learn", "numpy", "pandas")


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of the predictions for the sample's rows with its target column.

    `measure` is "accuracy" or "R²"; `commonest` is the accuracy of always predicting the commonest value.
    """

    target: str
    rows: int
    measure: str
    value: float
    commonest: float | None = None

    def shown(self) -> str:
        """Write the agreement for people, with a warning if a constant prediction would agree better."""
        if self.measure == "R²":
            sentence = (
                f"its predictions agree with {self.target!r} in the sample: R² {self.value:.4g} on {self.rows:,} rows"
            )
            doubt = self.value < 0
        else:
            equal = round(self.value * self.rows)
            sentence = f"its predictions equal {self.target!r} in {equal:,} of {self.rows:,} rows of the sample"
            sentence += f" ({self.value:.1%})"
            if equal == 0:
                return f"{sentence}: does the sample write them in another way, as words for numbers?"
            doubt = self.commonest is not None and self.value < self.commonest
        baseline = "the mean" if self.measure == "R²" else "the commonest value alone"
        return sentence + (f", less than {baseline} would: is it the right sample and target?" if doubt else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The checks of a new version and their results.

    `trained_with` has requirements that name the training environment, and `trained_with_source` where they are from,
    as the end of a sentence. `packed_with` and `served_with` are libraries with their versions. `equal_rows` is how
    many rows the graph and the model, or the serving and the packing libraries, answered equally; `largest_difference`
    is relative.
    """

    trained_with: tuple[str, ...]
    trained_with_source: str
    packed_with: dict[str, str]
    served_with: dict[str, str]
    runtime: str
    equal_rows: int
    largest_difference: float | None = None
    agreement: Agreement | None = None

    def shown(self) -> list[str]:
        """Write the verdict for people, line by line."""
        trained = ", ".join(named.replace("==", " ") for named in self.trained_with)
        source = f" (says {self.trained_with_source})" if trained else ""
        lines = [
            f"trained with: {trained or 'the artifact does not say; taken for the installed libraries'}{source}",
            f"packed with: {_versions(self.packed_with)}",
        ]
        rows = f"{self.equal_rows:,} rows"
        if self.runtime == "graph":
            runtime = self.served_with.get("onnxruntime", "?")
            lines.append(f"served by: its graph, ONNX Runtime {runtime}; equal to the model as packed on {rows}")
        elif self.served_with == self.packed_with:
            lines.append(f"served by: the same libraries; {rows} recorded, which others will have to answer equally")
        else:
            lines.append(f"served by: {_versions(self.served_with)}; equal to the model as packed on {rows}")
        return lines + ([self.agreement.shown()] if self.agreement else [])


def _versions(environment: dict[str, str]) -> str:
    versions = [f"{name} {environment[name]}" for name in SHOWN_LIBRARIES if name in environment]
    return ", ".join([*versions, f"Python {environment.get('python', '?')}"])
