"""The folder of an unfinished run: its output so far, its rejects, and the journal of its finished parts.

After a part was written, a line of the journal says how long the files are and what hash the new bytes have. A run that
was killed is resumed from the last line whose bytes are all there: what lies behind them is cut off.
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
    """A line of the journal: the totals up to a part, and the CRC-32 of the bytes that it added."""

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
    """Writes the parts of one run. Used by one process at a time: the journal is locked."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder = folder
        self._suffix = suffix
        """The suffix of the files of the parts; empty if all parts go into one file."""
        self._streams: dict[str, BinaryIO] = {}
        """The open files by name."""
        self.last = NOTHING_DONE
        """The last finished part."""
        self._synced_s = time.monotonic()

    @property
    def output(self) -> Path:
        """The output so far: a file, or a folder with a file for each part."""
        return self.folder / (PARTS if self._suffix else OUTPUT)

    @property
    def rejects(self) -> Path:
        """The rejects so far."""
        return self.folder / REJECTS

    def open(self, identity: Mapping[str, object], *, resume: bool) -> Done:
        """Begin a run, or go on with the one that is there, and return its last finished part.

        Args:
            identity: What must be the same for a resumed run: the input, the version, the options.
            resume: Whether to go on. Else what is there is removed.

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
            self.last = self._last_whole(lines, self.output, self.rejects)
            return self._cut()
        journal.truncate(0)
        self.output.unlink() if self.output.is_file() else shutil.rmtree(self.output, ignore_errors=True)
        try:
            self._append(JOURNAL, msgspec.json.encode(identity) + b"\n")
        except OSError:  # the disk is full: nothing is begun
            self.remove()
            raise
        return self._cut()

    def finished_at(self, identity: Mapping[str, object], output: Path, rejects: Path) -> Done | None:
        """Return the last part of a run that was killed after it had moved its output there; None if it did not.

        Every byte of the output and of the rejects must be that of the journal.
        """
        journal = self.folder / JOURNAL
        if self.output.exists() or not journal.exists():
            return None
        first, lines = _lines(journal.read_bytes())
        last = self._last_whole(lines, output, rejects)
        sizes = [_size_bytes(each) for each in (output, rejects)]
        is_whole = last.part >= 0 and last.part + 1 == len(lines) and sizes == [last.output_bytes, last.rejects_bytes]
        return last if is_whole and not _changed(first, identity) else None

    def _require_same(self, first: bytes, identity: Mapping[str, object]) -> None:
        if changed := _changed(first, identity):
            self.close()
            raise NotResumable(
                f"the run cannot be resumed: since it began, {' and '.join(changed)}; without --resume it begins anew"
            )

    def _last_whole(self, lines: list[bytes], output: Path, rejects: Path) -> Done:
        """Return the last part of which, and of all before it, every byte is there."""
        last = NOTHING_DONE
        with _opened(output) as outputs, _opened(rejects) as rejected:
            for line in lines:
                try:
                    done = msgspec.json.decode(line, type=Done)
                except msgspec.DecodeError:  # it was killed in the middle of it
                    break
                size_bytes = done.output_bytes - last.output_bytes
                with _opened(output / self._name(done.part)) if self._suffix else nullcontext(outputs) as stream:
                    whole = _crc(stream, size_bytes) == done.output_crc
                if done.part != last.part + 1 or not whole:
                    break
                if _crc(rejected, done.rejects_bytes - last.rejects_bytes) != done.rejects_crc:
                    break
                last = done
        return last

    def _name(self, part: int) -> str:
        """Return the name of the file of a part."""
        return f"part-{part:05}{self._suffix}"

    def _cut(self) -> Done:
        """Cut the files to what is finished, and open them to go on."""
        journal = self._streams[JOURNAL]
        journal.seek(0)
        lines = journal.read().split(b"\n")
        journal.truncate(sum(len(line) + 1 for line in lines[: self.last.part + 2]))
        if self._suffix:
            self.output.mkdir(exist_ok=True)
        else:
            self._streams[OUTPUT] = _cut_to(self.output, self.last.output_bytes)
        self._streams[REJECTS] = _cut_to(self.rejects, self.last.rejects_bytes)
        return self.last

    def add(self, scored: ScoredPart, header: bytes) -> None:
        """Write a part, and then its line in the journal. `header` goes before it."""
        content = header + scored.output
        if self._suffix:
            if content:
                _write_whole(self.output / self._name(scored.number), content)
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
        if time.monotonic() - self._synced_s >= SYNC_EVERY_S:
            self.sync()

    def _append(self, name: str, content: bytes) -> None:
        self._streams[name].write(content)
        self._streams[name].flush()

    def sync(self) -> None:
        """Wait until what is finished is on the disk."""
        for name in (OUTPUT, REJECTS, JOURNAL):
            if name in self._streams:
                os.fsync(self._streams[name].fileno())
        self._synced_s = time.monotonic()

    def close(self) -> None:
        """Close the files. The folder stays."""
        for stream in self._streams.values():
            with suppress(OSError):  # what a full disk did not take is no finished part
                stream.close()
        self._streams.clear()

    def remove(self) -> None:
        """Remove the folder after its output was moved away."""
        self.close()
        shutil.rmtree(self.folder)


def _lines(written: bytes) -> tuple[bytes, list[bytes]]:
    """Return the lines of a journal, the first one alone, without one that was cut off."""
    first, *lines = [line for line in written.rpartition(b"\n")[0].split(b"\n") if line] or [b""]
    return first, lines


def _changed(first: bytes, identity: Mapping[str, object]) -> list[str]:
    """Return what changed since the first line of a journal was written, each as a clause."""
    try:
        before = msgspec.json.decode(first, type=dict[str, object])
    except msgspec.DecodeError:
        before = {}
    now = msgspec.json.decode(msgspec.json.encode(identity), type=dict[str, object])
    return [_changes(name, before.get(name), now[name]) for name in now if now[name] != before.get(name)]


def _changes(name: str, before: object, now: object) -> str:
    """Return what changed as a clause: the facts that differ, with their values if these are short."""
    facts = []
    if isinstance(before, dict) and isinstance(now, dict):
        for fact in dict.fromkeys([*before, *now]):
            values = [each.get(fact) for each in (before, now)]
            is_short = all(isinstance(value, str | int) and len(str(value)) <= MOST_CHARS for value in values)
            if values[0] != values[1]:
                facts.append(f"{fact} was {values[0]!r}, is {values[1]!r}" if is_short else fact)
    return f"the {name} changed" + (f" ({some(facts)})" if facts else "")


def _opened(path: Path) -> BinaryIO:
    """Open a file for reading. One that is not there, or is a folder, is empty."""
    return path.open("rb") if path.is_file() else io.BytesIO()


def _size_bytes(path: Path) -> int:
    """Return the size of a file, or of the files of a folder; 0 if it is not there."""
    files = path.iterdir() if path.is_dir() else [path] if path.exists() else []
    return sum(each.stat().st_size for each in files)


def _crc(stream: BinaryIO, size_bytes: int) -> int:
    """Return the CRC-32 of the next bytes of a stream; -1 if it has fewer."""
    crc = 0
    while size_bytes > 0:
        content = stream.read(min(READ_BYTES, size_bytes))
        if not content:
            return -1
        crc, size_bytes = zlib.crc32(content, crc), size_bytes - len(content)
    return crc


def _cut_to(path: Path, size_bytes: int) -> BinaryIO:
    path.touch()
    os.truncate(path, size_bytes)
    return path.open("ab")


def _write_whole(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(content)
    beside.replace(path)


def publish(made: Path, target: Path) -> None:
    """Move a file or a folder into its place in one step. Moving what is there already does nothing."""
    if made.is_file():
        with made.open("rb") as stream:
            os.fsync(stream.fileno())
        made.replace(target)
    elif made.is_dir():
        made.rename(target)
    sync_folder(target.parent)
