"""Which version answers when none is named: pure functions from a snapshot to a choice."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping


class State(enum.Enum):
    """Where a version is in its life. Legal moves:

    FOUND -> VERIFIED -> LOADED -> AVAILABLE -> RETIRED, and from each of the first three to FAILED; from LOADED and
    AVAILABLE to QUARANTINED, and from there to RETIRED.
    """

    FOUND = "FOUND"  # a folder with a manifest
    VERIFIED = "VERIFIED"  # its files are the ones that were packed
    LOADED = "LOADED"  # in memory, before the fork; nothing has run
    AVAILABLE = "AVAILABLE"  # its examples gave the recorded predictions in this process
    RETIRED = "RETIRED"  # its last lease was returned and its memory freed
    FAILED = "FAILED"  # cannot be served, for a reason
    QUARANTINED = "QUARANTINED"  # workers died while it ran: it is not run any more


MOVES: Mapping[State, frozenset[State]] = {
    State.FOUND: frozenset({State.VERIFIED, State.FAILED}),
    State.VERIFIED: frozenset({State.LOADED, State.FAILED}),
    State.LOADED: frozenset({State.AVAILABLE, State.FAILED, State.QUARANTINED}),
    State.AVAILABLE: frozenset({State.RETIRED, State.QUARANTINED}),
    State.QUARANTINED: frozenset({State.RETIRED}),
    State.RETIRED: frozenset(),
    State.FAILED: frozenset(),
}


def current_version(states: Mapping[int, State], use: int | None = None, staged: Collection[int] = ()) -> int | None:
    """The version that answers: the one in use, else the newest that is AVAILABLE and not staged.

    A failed newer one does not take its model down; but no other version stands in for one that was chosen.
    """
    if use is not None:
        return use if states.get(use) is State.AVAILABLE else None
    available = (version for version, state in states.items() if state is State.AVAILABLE and version not in staged)
    return max(available, default=None)


def named_version(wanted: str, versions: Mapping[int, State], aliases: Mapping[str, int]) -> int | None:
    """The version that a number or an alias in a URL means, whatever its state; None where there is none."""
    if len(wanted) <= 9 and wanted.isascii() and wanted.isdigit() and int(wanted) in versions:
        return int(wanted)
    version = aliases.get(wanted)
    return version if version in versions else None


def default_model(wanted: str, marked: str | None, models: list[str]) -> str | None:
    """The model behind `/predict`: the one the settings name, else the one marked, else the only one."""
    if wanted:
        return wanted if wanted in models else None
    if marked in models:
        return marked
    return models[0] if len(models) == 1 else None
