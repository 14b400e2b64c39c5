"""What the process of its own does for each kind of request."""

from __future__ import annotations

from typing import assert_never

from app.packing.again import repack
from app.packing.compare import compare
from app.packing.spawn import CheckRequest, CompareRequest, PackRequest, RepackRequest, Request, Result
from app.packing.write import check, pack


def perform(request: Request) -> Result:
    """Do what is asked.

    Raises:
        PackingRefused: with the reason, in one sentence.
    """
    match request:
        case PackRequest():
            return pack(request)
        case CheckRequest():
            return check(request)
        case CompareRequest():
            return compare(request)
        case RepackRequest():
            return repack(request)
        case _:
            assert_never(request)
