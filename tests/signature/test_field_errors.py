"""All errors of a request are counted, and the first ones are listed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.errors import FieldError, InvalidInstances
from app.signature.field_errors import MOST_ERRORS, refuse


def test_nothing_is_refused_without_errors() -> None:
    refuse([])


@pytest.mark.parametrize("many", [1, MOST_ERRORS, MOST_ERRORS + 1, 1000])
def test_all_errors_are_counted_and_the_first_are_listed(many: int) -> None:
    def found() -> Iterator[FieldError]:
        for at in range(many):
            yield FieldError(f"#/{at}", "is wrong")

    with pytest.raises(InvalidInstances) as caught:
        refuse(found())
    assert caught.value.total == many
    assert [error.pointer for error in caught.value.errors] == [f"#/{at}" for at in range(min(many, MOST_ERRORS))]
