"""Choose which version of a model answers: `repository.json` and `history.json`.

`repository.json` holds the default model, the versions in use, the aliases and the staged versions. Commands write it,
and people may edit it. `history.json` holds each change with its author, and the highest version number of each model,
so that no number is given twice.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from app.errors import InvalidRepository
from app.storage.writing import replace_synced

POINTERS = "repository.json"
HISTORY = "history.json"
NEWEST = "newest"
MAX_CHANGES = 200
"""Older changes of a model are dropped."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pointers:
    """The model behind `/predict`; for each model its aliases, the version in use, and its staged versions.

    If no version is in use, the newest one that is not staged answers. A staged version answers only requests that name
    its number or an alias.
    """

    default: str | None = None
    aliases: dict[str, dict[str, int]] = field(default_factory=dict)
    use: dict[str, int] = field(default_factory=dict)
    staged: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def chosen(self, model: str, versions: Collection[int]) -> int | None:
        """Return which of these versions of a model answers; None if there is none."""
        unstaged = set(versions) - set(self.staged.get(model, ()))
        return self.use.get(model, max(unstaged, default=None))

    def of(self, model: str, others: Pointers) -> Pointers:
        """Return pointers with the default and one model of these, and all other models of `others`."""

        def merged(mine: dict[str, T], theirs: dict[str, T]) -> dict[str, T]:
            kept = {name: value for name, value in theirs.items() if name != model}
            return kept | ({model: mine[model]} if model in mine else {})

        sections = ("aliases", "use", "staged")
        return Pointers(self.default, *(merged(getattr(self, name), getattr(others, name)) for name in sections))

    def using(self, model: str, version: int | None) -> Pointers:
        """Return these pointers with a version in use, which is then not staged; with None, the newest one answers."""
        use = {name: v for name, v in self.use.items() if name != model}
        staged = {**self.staged, model: tuple(v for v in self.staged.get(model, ()) if v != version)}
        return replace(self, use=use if version is None else use | {model: version}, staged=_filled(staged))

    def with_staged(self, model: str, version: int) -> Pointers:
        """Return these pointers with one more staged version."""
        return replace(self, staged={**self.staged, model: (*self.staged.get(model, ()), version)})

    def with_alias(self, model: str, alias: str, version: int | None) -> Pointers:
        """Return these pointers with an alias for a version; None removes the alias."""
        names = {name: v for name, v in self.aliases.get(model, {}).items() if name != alias}
        names |= {} if version is None else {alias: version}
        return replace(self, aliases=_filled({**self.aliases, model: names}))

    def without(self, model: str, version: int, is_last: bool) -> Pointers:
        """Return these pointers without a version, and without its model if it was the last version."""
        aliases = {name: v for name, v in self.aliases.get(model, {}).items() if v != version}
        staged = tuple(v for v in self.staged.get(model, ()) if v != version)
        return Pointers(
            default=None if is_last and self.default == model else self.default,
            aliases=_filled({**self.aliases, model: {} if is_last else aliases}),
            use={name: v for name, v in self.use.items() if name != model or not (is_last or v == version)},
            staged=_filled({**self.staged, model: () if is_last else staged}),
        )

    def problems(self, versions: Mapping[str, Sequence[int]]) -> list[str]:
        """Return a sentence for each model or version that these pointers name but `versions` lacks."""
        existing = ", ".join(versions) or "none"
        problems = []
        if self.default is not None and self.default not in versions:
            problems.append(f"default: there is no model {self.default!r}; there are: {existing}")
        for section in ("aliases", "use", "staged"):
            problems += [
                f"{section}: there is no model {model!r}; there are: {existing}"
                for model in getattr(self, section)
                if model not in versions
            ]
        named = [(m, f"alias {alias!r}", v) for m, names in self.aliases.items() for alias, v in names.items()]
        named += [(m, "the version in use", v) for m, v in self.use.items()]
        named += [(m, "a staged version", v) for m, numbers in self.staged.items() for v in numbers]
        problems += [
            f"model {model!r}: {what} is {version}, which is not there; there are: {', '.join(map(str, known))}"
            for model, what, version in named
            if (known := versions.get(model)) and version not in known
        ]
        return problems + [
            f"model {model!r}: {wrong}"
            for model, names in self.aliases.items()
            for wrong in filter(None, map(wrong_alias, names))
        ]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a model: its time (ISO 8601, UTC), its author, and the version that answered before and after."""

    when: str
    who: str
    what: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class History:
    """For each model, the highest version number that was ever used, and its changes, the oldest first."""

    highest: dict[str, int] = field(default_factory=dict)
    changes: dict[str, tuple[Change, ...]] = field(default_factory=dict)

    def given(self, model: str, version: int) -> History:
        """Return this history with a version number marked as used, so that no later version gets it."""
        return replace(self, highest={**self.highest, model: max(version, self.highest.get(model, 0))})

    def with_change(self, model: str, what: str, before: int | None, after: int | None) -> History:
        """Return this history with one more change, made now by the user of this process."""
        change = Change(datetime.now(UTC).isoformat(timespec="seconds"), author(), what, before, after)
        return replace(self, changes={**self.changes, model: (*self.changes.get(model, ()), change)[-MAX_CHANGES:]})

    def before(self, model: str, now: int | None, versions: Collection[int]) -> int | None:
        """Return the version to roll back to: the last existing one that answered before the current one; else None.

        A version that an earlier rollback left is skipped, so that the next rollback goes further back. Without a
        history, return the next older version.
        """
        trail: list[int | None] = []
        for change in self.changes.get(model, ()):
            if not trail or trail[-1] != change.before:
                trail.append(change.before)
            if change.what.startswith(ROLLBACK) and change.after in trail:
                del trail[len(trail) - trail[::-1].index(change.after) :]
            elif change.after != change.before:
                trail.append(change.after)
        while trail and (trail[-1] == now or trail[-1] not in versions):
            trail.pop()
        return trail[-1] if trail else max((v for v in versions if now is not None and v < now), default=None)


ROLLBACK = "rollback"


def wrong_alias(alias: str) -> str | None:
    """Return why a text cannot be an alias (it stands in URLs instead of a version number); None if it can."""
    if alias == NEWEST or alias.isdigit():
        return f"alias {alias!r} would be mistaken for a version"
    if not alias or len(alias) > 64 or not all(c.isascii() and (c.isalnum() or c in "_.-") for c in alias):
        return f"alias {alias!r} must be 1 to 64 letters, digits, '.', '_' or '-'"
    return None


def author() -> str:
    """Return the user of this process as user@host, without asking a name service."""
    names = filter(None, map(os.environ.get, ("SUDO_USER", "LOGNAME", "USER")))
    return f"{next(names, os.getuid())}@{socket.gethostname()}"


def read(path: Path, form: type[T]) -> T:
    """Read `Pointers` or a `History` from its file; without a file, return an empty one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=form)
    except FileNotFoundError:
        return form()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRepository(f"{path} cannot be read: {error}") from None


def unknown_keys(path: Path) -> list[str]:
    """Return a sentence for each key of a readable `repository.json` that this release does not know."""
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []
    known = [f.name for f in fields(Pointers)]
    return [f"there is no key {key!r}; there are: {', '.join(known)}" for key in keys if key not in known]


def write(path: Path, document: Pointers | History) -> None:
    """Replace the file in one step, leaving out empty keys."""
    filled = {key: value for key, value in msgspec.to_builtins(document).items() if value}
    replace_synced(path, msgspec.json.format(msgspec.json.encode(filled), indent=1) + b"\n")


def _filled(by_model: dict[str, T]) -> dict[str, T]:
    return {model: value for model, value in by_model.items() if value}
