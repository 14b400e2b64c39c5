"""One bulk scoring run: score the rows of files with one model version, part by part."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from app import __version__
from app.errors import ScoringCancelled, ScoringRefused, TooManyRejects
from app.jobs.assembly import Assembly
from app.jobs.engines import Engine, engine_of
from app.jobs.forked import WorkerLost
from app.jobs.formats import Format, compress, format_of, has_pyarrow
from app.jobs.input_parts import InputParts
from app.jobs.locations import Source, is_url, put, remove, sources_of
from app.jobs.order_check import require_free_names
from app.jobs.output_place import place_of, require_new, require_place
from app.jobs.parts import TEXT_BYTES
from app.jobs.progress import Progress
from app.jobs.run_folder import JOURNAL, NOTHING_DONE, Done, RunFolder, publish
from app.jobs.scoring import OutputForm, ScoredPart
from app.jobs.versions import choose
from app.jobs.writing import csv_header
from app.settings import Settings
from app.signature import Signature

MOST_LOSSES = 3
"""A run fails after this number of lost workers in a row without a finished part."""
REJECTS_SUFFIX = ".rejects.ndjson"


def _ignore_progress(progress: Progress) -> None:
    """Do nothing with the progress of a run."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The result of a run. `rejects` is the file of the rejected rows; empty if no row was rejected."""

    model: str
    version: int
    rows: int
    rejected: int
    output: str
    rejects: str
    elapsed_s: float


@dataclass(slots=True)
class ScoringJob:
    """A job that scores the rows of files with one version, and writes the predictions.

    Attributes:
        model: The name of the model; empty for the default one.
        version: A number or an alias; None for the version that serves requests.
        input: A path, a glob, a folder, or a URL of object storage.
        output: A path or a URL. With a slash at its end, it is a folder, which gets a file for each part. If it is a
            symbolic link, its target is written, and the rejects beside the target.
        keep: The columns of the input that are written beside the predictions.
        max_rejects: The most rows that may be rejected; None for any number.
        resume: Whether to continue an unfinished run of this output, if one exists.
        engine: "local" or "dask".
        cluster: The address of Dask's scheduler, as in tcp://127.0.0.1:8786.
        processes: The number of local worker processes; None for one per core.
        settings: The folder of models, and the limits of validation.
        work_dir: The folder of the unfinished run. None for a hidden folder beside the output; for a URL, in the folder
            of temporary files.
    """

    model: str
    version: str | None
    input: str
    output: str
    keep: Sequence[str] = ()
    max_rejects: int | None = None
    resume: bool = False
    engine: str = "local"
    cluster: str = ""
    processes: int | None = None
    settings: Settings = field(default_factory=Settings)
    work_dir: Path | None = None

    def run(
        self,
        on_progress: Callable[[Progress], None] = _ignore_progress,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Scored:
        """Score all rows. The complete output appears at the end.

        Args:
            on_progress: Called after each part.
            is_cancelled: Called after each part; returns whether to stop.

        Raises:
            ModelNotFound, VersionNotFound: The model or the version does not exist.
            ScoringRefused: The input, the output or the model cannot be used, the run cannot be resumed, or the disk is
                full.
            TooManyRejects: More than `max_rejects` rows were rejected.
            ScoringCancelled: `is_cancelled` returned True. The finished parts are kept.
        """
        try:
            return _Run(self, on_progress, is_cancelled).run()
        except OSError as error:
            folder = _work_folder(self)
            can_resume = self.work_dir is None and (folder / JOURNAL).exists()
            hint = "; the finished parts are kept, and the same command with --resume goes on" if can_resume else ""
            raise ScoringRefused(f"{error.filename or folder}: {error.strerror or error}{hint}") from error


class _Run:
    """One run of a job."""

    def __init__(
        self, job: ScoringJob, on_progress: Callable[[Progress], None], is_cancelled: Callable[[], bool]
    ) -> None:
        self._job = job
        self._on_progress = on_progress
        self._is_cancelled = is_cancelled
        self._began_s = time.monotonic()
        self._version, manifest = choose(job.settings, job.model, job.version)
        self._signature: Signature = manifest.signature
        require_free_names(job.keep, manifest)
        self._sources = sources_of(job.input)
        # Scoring a single part takes less time than starting processes.
        workers = 1 if sum(source.size_bytes for source in self._sources) <= TEXT_BYTES else job.processes
        is_graph = self._version.graphs and manifest.graph is not None
        self._engine: Engine = engine_of(job.engine, job.cluster, workers, forking=is_graph)
        self._place = place_of(job.output)
        require_place(self._place, job.input, self._sources)
        self._is_folder = job.output.endswith("/")
        self._format = _format_of_parts(self._sources) if self._is_folder else format_of(job.output)
        self._form = OutputForm(tuple(dict.fromkeys(job.keep)), self._format, self._is_folder)
        self._folder = RunFolder(_work_folder(job), self._format.suffix if self._is_folder else "")
        self._assembly: Assembly | None = None
        """The writer of a Parquet or Arrow output. A resumed run writes this file from the beginning."""

    def run(self) -> Scored:
        job, identity, rejects = self._job, self._identity(), rejects_of(self._place)
        if job.resume and not is_url(self._place):
            finished = self._folder.finished_at(identity, Path(self._place), Path(rejects))
            if finished is not None:
                self._report(finished, first=finished)
                self._folder.remove()
                return self._result(finished, rejects if finished.rejected else "")
        require_new(self._place)
        done = self._folder.open(identity, resume=job.resume)
        try:
            if not self._format.is_text and not self._is_folder:
                self._assembly = Assembly(self._folder.output, self._assembled_file, self._format.name)
                self._assembly.add_all()
            done = self._score(done, first=done)
            self._folder.sync()
            rejects = self._publish(done)
        except BaseException:
            if self._assembly is not None:
                self._assembly.close()
            if self._folder.last == NOTHING_DONE:
                self._folder.remove()
            else:
                self._folder.close()
            raise
        self._folder.close()
        self._folder.remove()
        return self._result(done, rejects)

    def _result(self, done: Done, rejects: str) -> Scored:
        version, elapsed_s = self._version, time.monotonic() - self._began_s
        return Scored(version.model, version.version, done.rows, done.rejected, self._job.output, rejects, elapsed_s)

    @property
    def _assembled_file(self) -> Path:
        return self._folder.folder / "assembled"

    def _identity(self) -> dict[str, object]:
        """Return the facts that must be equal for a later run to resume this one."""
        version, form = self._version, self._format
        return {
            "input": {source.name: [source.size_bytes, source.stamp] for source in self._sources},
            "model": {"name": version.model, "version": version.version, "content": version.digest},
            "options": {
                "--keep": ",".join(self._form.keep),
                "format": form.suffix,
                "output": self._job.output,
            },
            "release of Retort": {"release": __version__, "pyarrow": has_pyarrow()},
            "settings": {
                "graphs": version.graphs,
                "out_of_range": version.out_of_range,
                "pixel_limit": version.pixel_limit,
            },
        }

    def _score(self, done: Done, first: Done) -> Done:
        """Score the parts after `done`, and return the last one. Try again if a worker was lost."""
        losses = 0
        while True:
            done_before = done
            try:
                return self._score_once(done, first)
            except WorkerLost as lost:
                done = self._folder.last
                losses = losses + 1 if done.part == done_before.part else 0
                if losses >= MOST_LOSSES:
                    raise ScoringRefused(
                        f"{lost}, {MOST_LOSSES} times at the part after row {done.rows}: perhaps it lacks memory"
                    ) from None

    def _score_once(self, done: Done, first: Done) -> Done:
        self._report(done, first)
        self._require_few_rejects(done)  # rows of an earlier run count too
        parts = InputParts(self._sources, self._signature, self._form.keep, done.part + 1)
        with closing(self._engine.score(self._version, self._form, parts)) as scored_parts:  # type: ignore[type-var]
            for scored in scored_parts:
                self._folder.add(scored, self._header(scored))
                if self._assembly is not None:
                    self._assembly.add(scored.output)
                done = self._folder.last
                self._report(done, first)
                self._require_few_rejects(done)
                if self._is_cancelled():
                    raise ScoringCancelled
        return done

    def _require_few_rejects(self, done: Done) -> None:
        limit = self._job.max_rejects
        if limit is not None and done.rejected > limit:
            raise TooManyRejects(done.rejected, limit, str(self._folder.rejects))

    def _header(self, scored: ScoredPart) -> bytes:
        """Return the CSV header for the first part of a file; empty for all other parts."""
        is_first = self._folder.last == NOTHING_DONE
        if not is_first or self._is_folder or self._format.name != "csv":
            return b""
        return compress(csv_header(scored.names), self._format.coding)

    def _report(self, done: Done, first: Done) -> None:
        fraction = max(0.0, done.end)
        parts = round((done.part + 1) / fraction) if fraction else None
        elapsed_s = time.monotonic() - self._began_s
        self._on_progress(
            Progress(done.part + 1, parts, done.rows, done.rejected, fraction, elapsed_s, first.rows, first.end)
        )

    def _publish(self, done: Done) -> str:
        """Move the output and the rejects to their places. Return the place of the rejects; empty if there are none."""
        output, rejects = self._place, rejects_of(self._place)
        finished_output = self._folder.output
        if self._assembly is not None:
            self._assembly.finish()
            finished_output = self._assembled_file
        if not done.rejected:
            remove(rejects)
        elif is_url(rejects):
            put(rejects, self._folder.rejects)
        else:
            publish(self._folder.rejects, Path(rejects))
        if not is_url(output):
            target = Path(output)
            if self._is_folder and finished_output.exists() and target.is_dir():
                target.rmdir()  # it is empty
            publish(finished_output, target)
        elif self._is_folder:
            for part in sorted(finished_output.iterdir()):
                put(output + part.name, part)
        else:
            put(output, finished_output)
        return rejects if done.rejected else ""


def rejects_of(output: str) -> str:
    """Return the path or URL of the rejects for an output."""
    return output.rstrip("/") + REJECTS_SUFFIX


def _format_of_parts(sources: Sequence[Source]) -> Format:
    """Return the format for the files of an output folder: the format of the input files."""
    formats = {source.format for source in sources}
    if len(formats) > 1:
        raise ScoringRefused("the files of the input have several formats: name one file as the output")
    return formats.pop()


def _work_folder(job: ScoringJob) -> Path:
    if job.work_dir is not None:
        return job.work_dir
    if is_url(job.output):
        digest = hashlib.sha256(job.output.encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"retort-scoring-{digest}"
    path = Path(place_of(job.output)).absolute()
    return path.with_name(f".{path.name}.scoring")
