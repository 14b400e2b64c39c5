"""`flask score` and `score`: their output and their refusals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from app import score
from app.cli import group
from app.cli.scoring import ScoringProgress
from app.errors import ScoringRefused
from app.jobs.progress import Progress
from tests.command_runner import runner
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, environment
from tests.jobs import killed
from tests.jobs.files import SETTINGS, penguins, read, write


def run(*arguments: object) -> Result:
    """Run the command, which ignores signals after its run until its process ends."""
    before, excepthook = (
        {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)},
        threading.excepthook,
    )
    try:
        return runner(SETTINGS).invoke(args=["score", *map(str, arguments)])
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        threading.excepthook = excepthook


@pytest.mark.parametrize("model", ["penguins", "penguins:1", ""])
def test_the_command_scores_a_file(model: str, tmp_path: Path) -> None:
    source, output = write(penguins(30), tmp_path / "in.csv"), tmp_path / "out.csv"
    result = run(model, source, output, "--keep", "id, sex", "--keep", "year", "--processes", 1)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"30 rows scored with penguins version 1: {output}\n"
    assert list(read(output).columns)[:4] == ["id", "sex", "year", "prediction"]


def test_rejects_are_counted_in_the_output(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("feature1,feature2\n5.1,3.5\ntall,3.5\n")
    result = run("iris-two", tmp_path / "in.csv", tmp_path / "out.csv")
    assert result.stdout.splitlines()[-1] == f"1 row could not be scored: {tmp_path}/out.csv.rejects.ndjson"
    result = run("iris-two", tmp_path / "in.csv", tmp_path / "out.csv", "--max-rejects", 0)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: 1 row was rejected, more than the limit of 0")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("penguins@champion", "in.csv", "out.csv"), "Error: model 'penguins' has no version or alias 'champion'"),
        (("penguin", "in.csv", "out.csv"), "Error: there is no model 'penguin'"),
        (("penguins", "none.csv", "out.csv"), "Error: none.csv: there is no such file"),
    ],
)
def test_a_refusal_is_one_sentence(arguments: tuple[str, ...], reason: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(reason)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.csv", "b.csv", "out.csv"), "INPUT is one file, folder or glob: put a glob in quotes, else the shell"),
        (("", "out.csv"), "INPUT is empty"),
        (("a.csv", ""), "OUTPUT is empty"),
    ],
)
def test_a_wrong_number_of_places_is_an_error(arguments: tuple[str, ...], message: str) -> None:
    result = run("penguins", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(f"Error: {message}")


@contextlib.contextmanager
def sigint_heard() -> Iterator[None]:
    """Handle SIGINT in this process and its new children, although shells ignore it for background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_how_to_continue(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGINT)  # an impatient user presses Ctrl-C again

    monkeypatch.setattr(ScoringProgress, "show", interrupt)
    with sigint_heard():
        result = run("penguins", write(penguins(30), tmp_path / "in.csv"), tmp_path / "out.csv")
    assert result.exit_code == 128 + number
    assert result.stderr == (
        "Error: the run was stopped; its finished parts are kept, and the same command with --resume goes on\n"
    )


def test_an_interrupt_without_a_signal_ends_a_run_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ScoringProgress, "show", interrupt)
    result = run("penguins", write(penguins(30), tmp_path / "in.csv"), tmp_path / "out.csv")
    assert (result.exit_code, result.stderr.count("the run was stopped")) == (130, 1)


@pytest.mark.slow
@pytest.mark.parametrize("parts_done", [0, 1])
@pytest.mark.parametrize(("runtime", "least"), [("auto", 2), ("artifact", 3)])
def test_ctrl_c_on_a_terminal_ends_all_processes_with_one_sentence(
    parts_done: int, runtime: str, least: int, tmp_path: Path
) -> None:
    source, output = write(penguins(200_000), tmp_path / "in.ndjson"), tmp_path / "out.ndjson"
    command = [sys.executable, "-m", "flask", "score", "penguins", str(source), str(output), "--processes", "2"]
    models = environment(RETORT_MODELS_DIR=EXAMPLE_MODELS, RETORT_RUNTIME=runtime)
    with sigint_heard():
        begun = subprocess.Popen(
            command, cwd=ROOT, env=models, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
        )
    journal, children = tmp_path / ".out.ndjson.scoring" / "journal.ndjson", list[Path]()
    while begun.poll() is None and not (len(children) >= least and journal.read_bytes().count(b"\n") > parts_done):
        children = killed.children_of(begun.pid)
        time.sleep(0.005)
    os.killpg(begun.pid, signal.SIGINT)
    printed, said = begun.communicate(timeout=60)
    assert said.splitlines() == [
        "Error: the run was stopped; its finished parts are kept, and the same command with --resume goes on"
    ]
    # Python ends itself by the signal if that came while it ran code from a text, such as a named tuple's.
    assert (begun.returncode in (130, -signal.SIGINT), printed) == (True, "")
    assert killed.ended(children)


def test_progress_is_a_line_at_intervals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "LINE_EVERY_S", 0.0)
    with ScoringProgress() as line:
        line.show(Progress())
        line.show(Progress(2, 8, 50_000, 3, 0.25, 10.0, 10_000, 0.05))
    assert capsys.readouterr().err.splitlines() == [
        "0 s: 0%, 0 rows",
        "10 s: 25%, 50,000 rows (3 rejected), 4,000 rows/s, about 38 s left",
    ]


def test_score_is_the_command_for_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, seen = write(penguins(30), tmp_path / "in.parquet"), list[Progress]()
    monkeypatch.chdir(tmp_path)
    options = {"keep": ["id"], "models_dir": os.fspath(EXAMPLE_MODELS)}
    scored = score("penguins", source, "out.parquet", version=1, on_progress=seen.append, **options)  # type: ignore[arg-type]
    assert (scored.rows, scored.version, seen[-1].fraction) == (30, 1, 1.0)
    assert len(read(tmp_path / "out.parquet")) == 30
    with pytest.raises(ScoringRefused, match="has that name"):
        score("penguins", write(penguins(3).assign(prediction=1), tmp_path / "p.csv"), "o.csv", keep=["prediction"],
              models_dir=EXAMPLE_MODELS)  # fmt: skip
