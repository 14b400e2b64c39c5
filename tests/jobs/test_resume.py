"""Runs that are killed at any moment: no row is lost or doubled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.errors import ScoringCancelled, ScoringRefused
from app.jobs import job as jobs
from app.jobs import parts
from app.jobs.job import ScoringJob
from app.jobs.run_folder import RunFolder
from tests.jobs import killed
from tests.jobs.files import SETTINGS, penguins, read, score, write


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "moments", "processes"), [("csv", 5, 1), ("parquet", 1, 2)])
@pytest.mark.fault("S01")
def test_a_run_that_is_killed_at_random_moments_gives_the_same_files(
    suffix: str, moments: int, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "TEXT_BYTES", parts.TEXT_BYTES)  # a run in this process changes it
    monkeypatch.setattr(jobs, "TEXT_BYTES", jobs.TEXT_BYTES)
    source, output = killed.table_with_bad_rows(tmp_path / "in.csv"), tmp_path / f"out.{suffix}"
    assert killed.killed_at(source, output, moments, processes) == moments
    killed.same_as_undisturbed(source, output, tmp_path)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoringJob:
    """Return a run of several parts with rejects."""
    monkeypatch.setattr(parts, "TEXT_BYTES", 4000)
    table = penguins(400)
    table.loc[[5, 300], "island"] = "Mars"
    source = write(table, tmp_path / "in.csv")
    return ScoringJob("penguins", None, str(source), str(tmp_path / "out.csv"), ["id"], settings=SETTINGS, processes=1)


def files_of(job: ScoringJob) -> tuple[bytes, bytes]:
    return Path(job.output).read_bytes(), Path(f"{job.output}.rejects.ndjson").read_bytes()


@pytest.fixture
def undisturbed(job: ScoringJob) -> tuple[bytes, bytes]:
    job.run()
    found = files_of(job)
    for name in ("out.csv", "out.csv.rejects.ndjson"):
        Path(job.output).with_name(name).unlink()
    return found


class Killed(BaseException):
    """A fake end of the process."""


@pytest.mark.parametrize("step", ["put the rejects", "put the output", "remove the folder"])
@pytest.mark.fault("S02")
def test_a_run_that_is_killed_while_it_finishes_can_be_resumed(
    step: str, job: ScoringJob, undisturbed: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if step == "remove the folder":
            patch.setattr(RunFolder, "remove", killer())
        else:
            real, calls = jobs.publish, iter([step == "put the rejects", step == "put the output"])
            patch.setattr(jobs, "publish", lambda made, target: killer()() if next(calls) else real(made, target))
        with pytest.raises(Killed):
            job.run()
    job.resume = True
    scored = job.run()
    assert (scored.rows, scored.rejected) == (400, 2)
    assert files_of(job) == undisturbed


def killed_after_its_output_was_moved(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "remove", killer())
        with pytest.raises(Killed):
            job.run()
    job.resume = True


@pytest.mark.parametrize("output", ["out.csv", "out/"])
def test_a_run_that_was_killed_after_its_output_was_moved_is_done(
    output: str, job: ScoringJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.output = f"{Path(job.output).parent}/{output}"
    killed_after_its_output_was_moved(job, monkeypatch)
    made = [each for each in Path(job.output).parent.rglob("*.csv") if ".scoring" not in str(each)]
    before = {each: each.stat().st_mtime_ns for each in made}
    scored = job.run()
    assert (scored.rows, scored.rejected, Path(scored.rejects).is_file()) == (400, 2, True)
    assert {each: each.stat().st_mtime_ns for each in before} == before
    assert not Path(job.output).with_name(f".{Path(output).name}.scoring").exists()


@pytest.mark.parametrize("change", ["another input", "another file", "other bytes", "one file fewer"])
def test_a_folder_that_is_not_the_whole_output_of_the_run_is_refused(
    change: str, job: ScoringJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.output = str(Path(job.output).with_name("out")) + "/"
    killed_after_its_output_was_moved(job, monkeypatch)
    first = Path(job.output) / "part-00000.csv"
    if change == "another input":
        write(penguins(300), Path(job.input))
    elif change == "another file":
        first.with_name("more.csv").write_text("1\n")
    elif change == "other bytes":
        first.write_bytes(first.read_bytes()[:-1] + b" ")
    else:
        first.unlink()
    with pytest.raises(ScoringRefused, match="out/ is there already: a folder of output must be new or empty"):
        job.run()


def test_a_file_of_a_part_that_the_disk_has_lost_is_written_again(job: ScoringJob) -> None:
    job.output = str(Path(job.output).with_name("out")) + "/"
    seen: list[object] = []
    with pytest.raises(ScoringCancelled):
        job.run(seen.append, lambda: len(seen) == 4)
    lost = Path(job.output).with_name(".out.scoring") / "parts" / "part-00001.csv"
    lost.write_bytes(b"")
    job.resume = True
    assert job.run().rows == 400
    assert len(read(Path(job.output))) == 398


def killer() -> object:
    def kill(*_: object) -> None:
        raise Killed

    return kill


@pytest.mark.parametrize("damage", ["half a line", "a line without its bytes", "bytes without a line", "other bytes"])
@pytest.mark.fault("S02")
def test_only_whole_parts_count(damage: str, job: ScoringJob, undisturbed: tuple[bytes, bytes]) -> None:
    seen: list[object] = []
    with pytest.raises(ScoringCancelled):
        job.run(seen.append, lambda: len(seen) == 4)
    folder = Path(job.output).with_name(".out.csv.scoring")
    journal, output = folder / "journal.ndjson", folder / "output"
    if damage == "half a line":
        journal.write_bytes(journal.read_bytes()[:-20])
    elif damage == "a line without its bytes":
        output.write_bytes(output.read_bytes()[:-20])
    elif damage == "bytes without a line":
        output.write_bytes(output.read_bytes() + b"9,Adelie,1")
    else:
        output.write_bytes(output.read_bytes()[:-20] + bytes(20))
    job.resume = True
    assert job.run().rows == 400
    assert files_of(job) == undisturbed


def test_a_run_that_cannot_begin_leaves_nothing(job: ScoringJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "_append", full)
        with pytest.raises(ScoringRefused, match=r"\.out\.csv\.scoring: No space left on device$"):
            job.run()
    assert [path.name for path in Path(job.output).parent.iterdir()] == ["in.csv"]


def test_a_run_with_half_a_line_in_its_journal_begins_again(job: ScoringJob, undisturbed: tuple[bytes, bytes]) -> None:
    with pytest.raises(ScoringCancelled):
        job.run(is_cancelled=lambda: True)
    journal = Path(job.output).with_name(".out.csv.scoring") / "journal.ndjson"
    journal.write_bytes(journal.read_bytes()[:30])
    job.resume = True
    assert job.run().rows == 400
    assert files_of(job) == undisturbed


@pytest.mark.parametrize("processes", [1, 2])
def test_parts_that_a_stopped_run_does_not_need_cause_no_warning(
    job: ScoringJob, processes: int, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "TEXT_BYTES", 4000)  # otherwise one process is enough
    job.processes = processes
    with pytest.raises(ScoringCancelled):
        job.run(is_cancelled=lambda: True)
    assert [str(each.message) for each in recwarn] == []


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_table_that_was_half_written_is_written_whole(suffix: str, job: ScoringJob) -> None:
    job.output = str(Path(job.output).with_suffix(f".{suffix}"))
    job.run()
    undisturbed = Path(job.output).read_bytes()
    seen: list[object] = []
    with pytest.raises(ScoringCancelled):
        job.run(seen.append, lambda: len(seen) == 4)
    job.resume = True
    assert job.run().rows == 400
    assert Path(job.output).read_bytes() == undisturbed


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_table_that_cannot_be_moved_to_its_place_is_an_error(
    suffix: str, job: ScoringJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    job.output = str(Path(job.output).with_suffix(f".{suffix}"))
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "publish", full)
        with pytest.raises(ScoringRefused, match=r"No space left on device; .* with --resume goes on$"):
            job.run()
    job.resume = True
    assert job.run().rows == 400
    assert len(read(Path(job.output))) == 398


@pytest.mark.fault("S08")
def test_two_runs_do_not_write_one_output(job: ScoringJob) -> None:
    def begin_another(_: object) -> None:
        with pytest.raises(ScoringRefused, match="another run is writing this output"):
            score("penguins", job.input, job.output)

    job.run(begin_another)
    assert len(read(Path(job.output))) == 398


def test_without_resume_an_unfinished_run_begins_again(job: ScoringJob, undisturbed: tuple[bytes, bytes]) -> None:
    with pytest.raises(ScoringCancelled):
        job.run(is_cancelled=lambda: True)
    begun: list[int] = []
    job.run(lambda progress: begun.append(progress.rows))
    assert begun[0] == 0
    assert files_of(job) == undisturbed
    assert [json.loads(line)["line"] for line in undisturbed[1].splitlines()] == [7, 302]
