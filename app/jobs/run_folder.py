"""The folder of an unfinished run: its output so far, its rejects, and the journal of its finished parts.

After each part, a line in the journal records the sizes of the files and the CRC-32 of the new bytes. A killed run is
resumed from the last line whose bytes are complete in the files. The files are truncated there.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import time
import zlib
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from app.errors import NotResumable, ScoringRefused
from app.jobs.scoring import ScoredPart
from app.signature.field_errors import some
from app.storage.writing import sync_folder

JOURNAL, OUTPUT, REJECTS, PARTS = "journal.ndjson", "output", "rejects", "parts"
SYNC_EVERY_S = 1.0
READ_BYTES = 2**20
MOST_CHARS = 60


class Done(msgspec.Struct, frozen=True):
    """A line of the journal: the totals up to and including a part, and the CRC-32 of the part's bytes."""

    part: int
    rows: int
    rejected: int
    output_bytes: int
    rejects_bytes: int
    output_crc: int
    rejects_crc: int
    end: float
    names: tuple[str, ...]


NOTHING_DONE = Done(-1, 0, 0, 0, 0, 0, 0, 0.0, ())


class RunFolder:
    """Writer of the parts of one run. A lock on the journal excludes other processes."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder = folder
        self._suffix = suffix
        """The suffix of a file for each part; empty if all parts go into one file."""
        self._streams: dict[str, BinaryIO] = {}
        """The open files by name."""
        self.last = NOTHING_DONE
        """The last finished part."""
        self._last_sync_s = time.monotonic()

    @property
    def output(self) -> Path:
        """The output so far: a file, or a folder with a file for each part."""
        return self.folder / (PARTS if self._suffix else OUTPUT)

    @property
    def rejects(self) -> Path:
        """The rejects so far."""
        return self.folder / REJECTS

    def open(self, identity: Mapping[str, object], *, resume: bool) -> Done:
        """Begin a run or resume the existing one, and return the last finished part.

        Args:
            identity: The facts that must be equal to resume a run: the input, the version, the options.
            resume: Whether to resume the existing run. If False, its files are removed.

        Raises:
            ScoringRefused: Another process is writing, or the identity differs.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            return self._begin(identity, resume)
        except BaseException:
            self.close()
            raise

    def _begin(self, identity: Mapping[str, object], resume: bool) -> Done:
        self._streams[JOURNAL] = journal = (self.folder / JOURNAL).open("a+b")
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ScoringRefused(f"another run is writing this output: it holds {self.folder}") from None
        journal.seek(0)
        first, lines = _lines(journal.read())
        if resume and first:
            self._require_same(first, identity)
            self.last = self._last_complete(lines, self.output, self.rejects)
            return self._truncate()
        journal.truncate(0)
        self.output.unlink() if self.output.is_file() else shutil.rmtree(self.output, ignore_errors=True)
        try:
            self._append(JOURNAL, msgspec.json.encode(identity) + b"\n")
        except OSError:  # the disk is full: leave no folder
            self.remove()
            raise
        return self._truncate()

    def finished_at(self, identity: Mapping[str, object], output: Path, rejects: Path) -> Done | None:
        """Return the last part of a run that was killed after it moved its output to `output`; otherwise None.

        All bytes of the output and the rejects must match the journal.
        """
        journal = self.folder / JOURNAL
        if self.output.exists() or not journal.exists():
            return None
        first, lines = _lines(journal.read_bytes())
        last = self._last_complete(lines, output, rejects)
        sizes = [_size_bytes(path) for path in (output, rejects)]
        is_complete = (
            last.part >= 0 and last.part + 1 == len(lines) and sizes == [last.output_bytes, last.rejects_bytes]
        )
        return last if is_complete and not _find_changes(first, identity) else None

    def _require_same(self, first: bytes, identity: Mapping[str, object]) -> None:
        if changes := _find_changes(first, identity):
            self.close()
            raise NotResumable(
                f"the run cannot be resumed: since it began, {' and '.join(changes)}; without --resume it begins anew"
            )

    def _last_complete(self, lines: list[bytes], output: Path, rejects: Path) -> Done:
        """Return the last part up to which all bytes are in the files."""
        last = NOTHING_DONE
        with _open_or_empty(output) as outputs, _open_or_empty(rejects) as rejected:
            for line in lines:
                try:
                    done = msgspec.json.decode(line, type=Done)
                except msgspec.DecodeError:  # the process was killed while it wrote this line
                    break
                size_bytes = done.output_bytes - last.output_bytes
                with (
                    _open_or_empty(output / self._name_of_part(done.part))
                    if self._suffix
                    else nullcontext(outputs) as stream
                ):
                    is_complete = _crc(stream, size_bytes) == done.output_crc
                if done.part != last.part + 1 or not is_complete:
                    break
                if _crc(rejected, done.rejects_bytes - last.rejects_bytes) != done.rejects_crc:
                    break
                last = done
        return last

    def _name_of_part(self, part: int) -> str:
        """Return the name of the file for a part."""
        return f"part-{part:05}{self._suffix}"

    def _truncate(self) -> Done:
        """Truncate the files after the last finished part, and open them for appending."""
        journal = self._streams[JOURNAL]
        journal.seek(0)
        lines = journal.read().split(b"\n")
        journal.truncate(sum(len(line) + 1 for line in lines[: self.last.part + 2]))
        if self._suffix:
            self.output.mkdir(exist_ok=True)
        else:
            self._streams[OUTPUT] = _open_truncated(self.output, self.last.output_bytes)
        self._streams[REJECTS] = _open_truncated(self.rejects, self.last.rejects_bytes)
        return self.last

    def add(self, scored: ScoredPart, header: bytes) -> None:
        """Write the header and a part, and then the part's line in the journal."""
        content = header + scored.output
        if self._suffix:
            if content:
                _write_atomically(self.output / self._name_of_part(scored.number), content)
        else:
            self._append(OUTPUT, content)
        self._append(REJECTS, scored.rejects)
        last = self.last
        self.last = Done(
            scored.number,
            last.rows + scored.rows,
            last.rejected + scored.rejected,
            last.output_bytes + len(content),
            last.rejects_bytes + len(scored.rejects),
            zlib.crc32(content),
            zlib.crc32(scored.rejects),
            scored.end,
            scored.names or last.names,
        )
        self._append(JOURNAL, msgspec.json.encode(self.last) + b"\n")
        if time.monotonic() - self._last_sync_s >= SYNC_EVERY_S:
            self.sync()

    def _append(self, name: str, content: bytes) -> None:
        self._streams[name].write(content)
        self._streams[name].flush()

    def sync(self) -> None:
        """Wait until the finished parts are on the disk."""
        for name in (OUTPUT, REJECTS, JOURNAL):
            if name in self._streams:
                os.fsync(self._streams[name].fileno())
        self._last_sync_s = time.monotonic()

    def close(self) -> None:
        """Close the files. The folder stays."""
        for stream in self._streams.values():
            with suppress(OSError):  # bytes that do not fit on a full disk belong to no finished part
                stream.close()
        self._streams.clear()

    def remove(self) -> None:
        """Close the files, and remove the folder."""
        self.close()
        shutil.rmtree(self.folder)


def _lines(written: bytes) -> tuple[bytes, list[bytes]]:
    """Return the first line of a journal, and the other complete lines."""
    first, *lines = [line for line in written.rpartition(b"\n")[0].split(b"\n") if line] or [b""]
    return first, lines


def _find_changes(first: bytes, identity: Mapping[str, object]) -> list[str]:
    """Compare the identity with the first line of a journal. Return a clause for each difference."""
    try:
        before = msgspec.json.decode(first, type=dict[str, object])
    except msgspec.DecodeError:
        before = {}
    now = msgspec.json.decode(msgspec.json.encode(identity), type=dict[str, object])
    return [_describe_change(name, before.get(name), now[name]) for name in now if now[name] != before.get(name)]


def _describe_change(name: str, before: object, now: object) -> str:
    """Return a clause that names the facts that differ, with their values if these are short."""
    facts = []
    if isinstance(before, dict) and isinstance(now, dict):
        for fact in dict.fromkeys([*before, *now]):
            values = [facts_of_run.get(fact) for facts_of_run in (before, now)]
            is_short = all(isinstance(value, str | int) and len(str(value)) <= MOST_CHARS for value in values)
            if values[0] != values[1]:
                facts.append(f"{fact} was {values[0]!r}, is {values[1]!r}" if is_short else fact)
    return f"the {name} changed" + (f" ({some(facts)})" if facts else "")


def _open_or_empty(path: Path) -> BinaryIO:
    """Open a file for reading. Return an empty stream if it does not exist or is a folder."""
    return path.open("rb") if path.is_file() else io.BytesIO()


def _size_bytes(path: Path) -> int:
    """Return the size of a file or of the files in a folder; 0 if it does not exist."""
    files = path.iterdir() if path.is_dir() else [path] if path.exists() else []
    return sum(file.stat().st_size for file in files)


def _crc(stream: BinaryIO, size_bytes: int) -> int:
    """Return the CRC-32 of the next `size_bytes` bytes of a stream; -1 if it has fewer bytes."""
    crc = 0
    while size_bytes > 0:
        content = stream.read(min(READ_BYTES, size_bytes))
        if not content:
            return -1
        crc, size_bytes = zlib.crc32(content, crc), size_bytes - len(content)
    return crc


def _open_truncated(path: Path, size_bytes: int) -> BinaryIO:
    path.touch()
    os.truncate(path, size_bytes)
    return path.open("ab")


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    temporary.replace(path)


def publish(finished: Path, target: Path) -> None:
    """Move a file or a folder to its place in one step. Do nothing if it was already moved."""
    if finished.is_file():
        with finished.open("rb") as stream:
            os.fsync(stream.fileno())
        finished.replace(target)
    elif finished.is_dir():
        finished.rename(target)
    sync_folder(target.parent)
