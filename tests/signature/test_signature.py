"""The facts of a signature."""

from __future__ import annotations

import pytest

from app.signature import Input, Layout, Signature


@pytest.mark.parametrize(
    ("categories", "unseen", "closed"),
    [(("a",), "reject", True), (("a",), "accept", False), (None, "reject", False), ((), "reject", True)],
)
def test_an_input_is_closed_if_it_rejects_other_categories(
    categories: tuple[str, ...] | None, unseen: str, closed: bool
) -> None:
    assert Input("x", "category", "str", categories=categories, unseen=unseen).closed is closed


def test_names_are_in_the_order_of_a_row() -> None:
    inputs = (Input("b", "number", "float64"), Input("a", "number", "float64"))
    assert Signature(inputs, ("prediction",), ("prediction",), Layout.FRAME).names == ("b", "a")
