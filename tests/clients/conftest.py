"""The server that clients talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.process import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the committed models as a platform does."""
    with serving(tmp_path_factory.mktemp("clients")) as started:
        yield started
