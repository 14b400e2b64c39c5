"""The pages of jobs in Chromium. A worker in the process of the test does the jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from app import create_app
from app.jobs.job_folders import JobFolders
from app.jobs.job_record import JobRecord
from app.jobs.progress import Progress
from app.jobs.worker import JobWorker
from app.settings import Settings
from tests.browser.visit import visiting
from tests.jobs.stage import penguins, settings, work
from tests.web.stage import serving

pytestmark = [pytest.mark.browser, pytest.mark.needs_program("chromium")]


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings(tmp_path_factory.mktemp("jobs"))


@pytest.fixture(scope="module")
def worker(at: Settings) -> Iterator[JobWorker]:
    """Yield a worker that only signals that it runs."""
    made = JobWorker(at, processes=1)
    made._store.prepare()
    with made._folders.working():
        yield made
    made._queue.close()
    made._store.close()


@pytest.fixture(scope="module")
def root(at: Settings, worker: JobWorker) -> Iterator[str]:
    app = create_app(at)
    app.extensions["retort"].load()
    with serving(app) as address:
        yield address


def test_a_file_is_sent_its_bar_moves_and_the_result_is_downloaded(
    chromium: Browser, root: str, at: Settings, worker: JobWorker, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_bytes(penguins(40, "x,Mars,1,2,3,4,male,2007"))
    for visit in visiting(chromium, root, accept_downloads=True):
        page = visit.page
        page.goto(f"{root}/jobs")
        assert visit.violations() == []
        page.get_by_label("File").set_input_files(rows)
        page.get_by_label("Columns to keep").fill("id")
        page.get_by_role("button", name="Score").click()
        expect(page.get_by_role("heading", name="rows.csv")).to_be_visible()
        expect(page.get_by_role("status")).to_have_text("queued")
        assert visit.violations() == []

        (job,) = worker._store.open_jobs()
        half = report(worker, job)
        expect(page.get_by_role("status")).to_have_text("running")
        expect(page.locator("[data-shown=percent]")).to_have_text("50 %")
        expect(page.locator("[data-shown=rows]")).to_have_text("20,000")
        expect(page.locator("[data-shown=left]")).to_have_text("1 min 5 s")
        assert page.get_by_role("progressbar", name="Progress").evaluate("bar => bar.value") == 0.5

        worker._store.give_back(job.id, half)
        thread = threading.Thread(target=work, args=(at,))
        thread.start()
        expect(page.get_by_role("status")).to_have_text("done")
        thread.join()
        assert visit.violations() == []
        with page.expect_download() as told:
            page.get_by_role("link", name="Result (csv)").click()
        assert told.value.suggested_filename == "rows-predictions.csv"
        assert len(Path(told.value.path()).read_text("utf-8").splitlines()) == 41
        expect(page.get_by_role("link", name="Rejected rows")).to_be_visible()
        page.get_by_role("button", name="Delete the job").click()
        expect(page.get_by_text("None yet.")).to_be_visible()


def report(worker: JobWorker, job: JobRecord) -> str:
    """Report that half of a job is done, and return the lease."""
    lease = "of this test"
    assert worker._store.take(job, lease) is not None
    assert worker._store.report(job.id, lease, Progress(1, 2, 20_000, 0, 0.5, 65.0), 0)
    return lease


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_waiting_job_can_be_cancelled_on_a_small_screen(
    chromium: Browser, root: str, tmp_path: Path, scheme: str
) -> None:
    rows = tmp_path / f"{'long-name-' * 8}.csv"
    rows.write_bytes(penguins(2))
    for visit in visiting(chromium, root, viewport={"width": 320, "height": 740}, color_scheme=scheme):
        page = visit.page
        page.goto(f"{root}/jobs")
        page.get_by_label("File").set_input_files(rows)
        page.get_by_role("button", name="Score").click()
        page.get_by_role("button", name="Cancel the job").click()
        expect(page.get_by_role("status")).to_have_text("cancelled")
        assert not visit.overflows
        assert visit.violations() == []
        page.goto(f"{root}/jobs")
        assert not visit.overflows
        assert visit.violations() == []
        page.goto(f"{root}/jobs")
        page.get_by_role("link", name=rows.name).first.click()
        page.get_by_role("button", name="Delete the job").click()
        expect(page.get_by_role("heading", name="New job")).to_be_visible()


def test_the_page_of_a_job_says_that_no_worker_runs(chromium: Browser, tmp_path: Path) -> None:
    at = settings(tmp_path)
    app = create_app(at)
    app.extensions["retort"].load()
    rows = tmp_path / "rows.csv"
    rows.write_bytes(penguins(2))
    with serving(app) as root:
        for visit in visiting(chromium, root):
            page = visit.page
            page.goto(f"{root}/jobs")
            expect(page.get_by_text("No job is taken now, because no worker of jobs runs")).to_be_visible()
            assert visit.violations() == []
            with JobFolders(at.jobs_folder).working():
                page.reload()
                expect(page.get_by_text("No job is taken now")).to_have_count(0)
                page.get_by_label("File").set_input_files(rows)
                page.get_by_role("button", name="Score").click()
                expect(page.get_by_role("status")).to_have_text("queued")
                expect(page.get_by_text("The job waits")).to_be_hidden()
            expect(page.get_by_text("The job waits, because no worker of jobs runs")).to_be_visible()
            expect(page.locator("code").filter(has_text="flask jobs work")).to_be_visible()
            assert visit.violations() == []


def test_without_javascript_the_page_reloads_itself(
    chromium: Browser, root: str, worker: JobWorker, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_bytes(penguins(2))
    for visit in visiting(chromium, root, java_script_enabled=False):
        page = visit.page
        page.goto(f"{root}/jobs")
        page.get_by_label("File").set_input_files(rows)
        page.get_by_role("button", name="Score").click()
        expect(page.get_by_role("status")).to_have_text("queued")
        (job,) = worker._store.open_jobs()
        report(worker, job)
        expect(page.get_by_role("status")).to_have_text("running", timeout=20_000)
        worker._store.cancel(job.id)
