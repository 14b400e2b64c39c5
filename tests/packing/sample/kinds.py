"""A small table in files of different kinds, and the model's facts about its columns."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from app.errors import PackingRefused
from app.packing.sample import Sample, read
from app.packing.sample.expected import Column, Expected

NAMES = ("price", "weight", "city", "zip")
HOUSES = Expected(
    names=NAMES,
    width=4,
    columns={
        "price": Column(typical=1200.0),
        "weight": Column(typical=2.0),
        "city": Column(("Köln", "Bonn", "NA")),
        "zip": Column(("00501", "10115", "00502")),
    },
)
TEXT = "price,weight,city,zip,kind\n1200.5,1.25,Köln,00501,a\n900,2.5,Bonn,10115,b\n?,-,NA,00502,a\n"
ROWS = {
    "price": [1200.5, 900.0, None],
    "weight": [1.25, 2.5, None],
    "city": ["Köln", "Bonn", "NA"],
    "zip": ["00501", "10115", "00502"],
}


def read_content(folder: Path, name: str, content: bytes | str, expected: Expected = HOUSES) -> Sample:
    """Read a file of this content as a sample, with the target `kind` if it has one."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path, "kind", expected)


def refusal(folder: Path, name: str, content: bytes | str) -> str:
    """Return the reason why a file of this content is not a sample, without its name."""
    with pytest.raises(PackingRefused) as caught:
        read_content(folder, name, content)
    return caught.value.detail.removeprefix(f"sample {folder / name} ")


def rows_of(sample: Sample) -> dict[str, list[object]]:
    """Return the columns of the sample, with None for missing values."""
    return {
        str(name): [None if pd.isna(value) else value for value in column.tolist()]
        for name, column in sample.frame.items()
    }
