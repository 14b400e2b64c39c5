"""Sentences about a new version, for the person who packs it."""

from __future__ import annotations

from app.packing import declared
from app.packing.timing import times_sentence
from app.signature import Input
from app.storage.manifest import Manifest

MAX_REMARKED_INPUTS = 20
SUSPECT = 10
"""If a pixel can be this many times the largest value of the sample, a `divisor` was probably forgotten."""
_OTHERS = {"reject": "", "warn": " (others accepted with a warning)", "accept": " (others accepted)"}


HOW = {"trees": "trees", "linear": "weights"}


def remarks_on(manifest: Manifest, declaration: declared.Declared) -> list[str]:
    """Describe the inferred inputs and outputs, the graph, and the options without effect."""
    signature = manifest.signature
    remarks = input_remarks(manifest)
    remarks += [
        f"input {spec.name}: the sample's values end at {spec.maximum:.6g}, a pixel's at {top:.6g}: "
        "is the divisor right?"
        for spec in signature.inputs
        if spec.image and spec.maximum is not None
        if spec.maximum * SUSPECT < (top := 255 / spec.image.divisor + spec.image.offset)
    ]
    remarks += [
        f"--unseen {wish} changes nothing for {', '.join(names)}: the model fails on values that it has never seen, so "
        "they stay refused (its encoder decides, by handle_unknown)"
        for wish, names in declaration.ineffective_unseen(signature).items()
    ]
    remarks.append(f"outputs: {', '.join(signature.outputs)}")
    remarks += [explanation_remark(manifest), *graph_remarks(manifest.proof)]
    if manifest.examples_made_up:
        remarks.append("its examples are made up from what the estimator knows; --sample takes rows it was trained on")
    return remarks


def explanation_remark(manifest: Manifest) -> str:
    """Say how predictions are explained."""
    explanation = manifest.explanation
    if explanation is None:
        return "its predictions cannot be explained"
    how = (
        "approximately, from samples"
        if explanation.method == "sampled"
        else f"exactly, by its {HOW[explanation.method]}"
    )
    return f'"outputs": ["explanation"] explains its {explanation.output} {how}'


def input_remarks(manifest: Manifest) -> list[str]:
    """Describe the model and its first inputs."""
    signature = manifest.signature
    remarks = [f"{manifest.task}: {manifest.estimator}"]
    for spec in signature.inputs[:MAX_REMARKED_INPUTS]:
        details = (
            "" if spec.minimum is None or spec.maximum is None else f", {spec.minimum:.6g} to {spec.maximum:.6g} seen"
        )
        details += f", one of {', '.join(map(str, spec.categories[:10]))}" if spec.categories else ""
        details += _OTHERS[spec.unseen] if spec.categories else ""
        details = f"{_shape_remark(spec)}{details}"
        remarks.append(f"input {spec.name}: {spec.kind}{details}{', may be missing' if spec.nullable else ''}")
    if len(signature.inputs) > MAX_REMARKED_INPUTS:
        remarks.append(
            f"and {len(signature.inputs) - MAX_REMARKED_INPUTS} more inputs: flask models show {manifest.model}"
        )
    return remarks


def _shape_remark(spec: Input) -> str:
    """Describe the shape of an array, or the mode, size and pixels of an image."""
    if spec.image is None:
        return f" of shape {' x '.join(map(str, spec.shape))}" if spec.shape else ""
    picture = spec.image
    scale = f" / {picture.divisor:g}" if picture.divisor != 1 else ""
    shift = f" {'-' if picture.offset < 0 else '+'} {abs(picture.offset):g}" if picture.offset else ""
    return (
        f" of mode {picture.mode}, {picture.width} x {picture.height}, "
        f"pixels 0 to 255{scale}{shift or ('' if scale else ' as they are')}"
    )


def graph_remarks(proof: dict[str, object]) -> list[str]:
    """Say whether the graph is served and how long it takes, or why there is no graph."""
    if not proof.get("proven"):
        return [f"served as the artifact: {proof.get('reason')}"]
    served = (
        f"served as a graph, equal to the artifact on {proof['rows']} rows "
        f"(largest relative difference {proof['largest_difference']:.1e}); {times_sentence(proof)}"
    )
    return [served, *([str(proof["slower"])] if "slower" in proof else [])]
