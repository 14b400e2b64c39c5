"""Choose the version that answers a request without a version. Pure functions."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping


class State(enum.Enum):
    """The state of a version. Legal moves:

    FOUND -> VERIFIED -> LOADED -> AVAILABLE -> UNLOADING -> RETIRED; from each of the first three to FAILED; from
    LOADED and AVAILABLE to QUARANTINED, and from there to RETIRED.
    """

    FOUND = "FOUND"  # there is a folder with a manifest
    VERIFIED = "VERIFIED"  # its files have the hashes of packing time
    LOADED = "LOADED"  # it is in memory and has not run yet
    AVAILABLE = "AVAILABLE"  # its examples gave the recorded predictions in this process
    UNLOADING = "UNLOADING"  # it takes no new requests; some still use it
    RETIRED = "RETIRED"  # no request uses it any more, and its memory is free
    FAILED = "FAILED"  # it cannot be served; the entry has the reason
    QUARANTINED = "QUARANTINED"  # workers died while it ran, so it is not run any more


MOVES: Mapping[State, frozenset[State]] = {
    State.FOUND: frozenset({State.VERIFIED, State.FAILED}),
    State.VERIFIED: frozenset({State.LOADED, State.FAILED}),
    State.LOADED: frozenset({State.AVAILABLE, State.FAILED, State.QUARANTINED}),
    State.AVAILABLE: frozenset({State.UNLOADING, State.QUARANTINED}),
    State.UNLOADING: frozenset({State.RETIRED}),
    State.QUARANTINED: frozenset({State.RETIRED}),
    State.RETIRED: frozenset(),
    State.FAILED: frozenset(),
}


def current_version(states: Mapping[int, State], use: int | None = None, staged: Collection[int] = ()) -> int | None:
    """Return the version that answers: the chosen one, else the newest AVAILABLE one that is not staged.

    If the newest version fails, an older one answers. But no other version replaces a chosen one.
    """
    if use is not None:
        return use if states.get(use) is State.AVAILABLE else None
    available = (version for version, state in states.items() if state is State.AVAILABLE and version not in staged)
    return max(available, default=None)


def named_version(name: str, versions: Mapping[int, State], aliases: Mapping[str, int]) -> int | None:
    """Return the version that a number or alias in a URL names, in any state; None if there is none."""
    if len(name) <= 9 and name.isascii() and name.isdigit() and int(name) in versions:
        return int(name)
    version = aliases.get(name)
    return version if version in versions else None


def default_model(configured: str, marked: str | None, models: list[str]) -> str | None:
    """Return the model behind `/predict`: the configured one, else the marked one, else the only one."""
    if configured:
        return configured if configured in models else None
    if marked in models:
        return marked
    return models[0] if len(models) == 1 else None
