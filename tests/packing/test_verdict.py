"""The verdict in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.packing.verdict import Agreement, Verdict

OLDER = {"python": "3.11.7", "scikit-learn": "1.4.2", "numpy": "1.26.4", "pandas": "2.2.3", "onnxruntime": "1.32.0"}
NEWER = {"python": "3.12.1", "scikit-learn": "1.9.1", "numpy": "2.4.6", "onnxruntime": "1.32.0"}
VERDICT = Verdict(("scikit-learn==1.4.2", "numpy<2"), "the artifact", OLDER, NEWER, "graph", 5312)


def test_a_graph_names_its_runtime() -> None:
    assert VERDICT.shown() == [
        "trained with: scikit-learn 1.4.2, numpy<2 (says the artifact)",
        "packed with: scikit-learn 1.4.2, numpy 1.26.4, pandas 2.2.3, Python 3.11.7",
        "served by: its graph, ONNX Runtime 1.32.0; equal to the model as packed on 5,312 rows",
    ]


def test_an_artifact_names_the_libraries_that_were_tried() -> None:
    line = replace(VERDICT, runtime="artifact", equal_rows=300).shown()[2]
    assert line == "served by: scikit-learn 1.9.1, numpy 2.4.6, Python 3.12.1; equal to the model as packed on 300 rows"
    line = replace(VERDICT, runtime="artifact", equal_rows=300, served_with=OLDER).shown()[2]
    assert line == "served by: the same libraries; 300 rows recorded, which others will have to answer equally"


def test_assumptions_are_named() -> None:
    line = replace(VERDICT, trained_with=(), trained_with_source="").shown()[0]
    assert line == "trained with: the artifact does not say; taken for the installed libraries"


@pytest.mark.parametrize(
    ("agreement", "message"),
    [
        (
            Agreement("kind", 200, "accuracy", 0.925, 0.5),
            "its predictions equal 'kind' in 185 of 200 rows of the sample (92.5%)",
        ),
        (
            Agreement("kind", 200, "accuracy", 0.25, 0.5),
            "its predictions equal 'kind' in 50 of 200 rows of the sample (25.0%), less than the commonest value alone "
            "would: is it the right sample and target?",
        ),
        (
            Agreement("kind", 200, "accuracy", 0.0, 0.5),
            "its predictions equal 'kind' in 0 of 200 rows of the sample (0.0%): does the sample write them in another "
            "way, as words for numbers?",
        ),
        (Agreement("y", 90, "R²", 0.8), "its predictions agree with 'y' in the sample: R² 0.8 on 90 rows"),
        (
            Agreement("y", 90, "R²", -2.5),
            "its predictions agree with 'y' in the sample: R² -2.5 on 90 rows, less than the mean would: is it the "
            "right sample and target?",
        ),
    ],
)
def test_agreement_with_the_target_is_judged(agreement: Agreement, message: str) -> None:
    assert replace(VERDICT, agreement=agreement).shown()[-1] == message
