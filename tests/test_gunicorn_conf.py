"""Gunicorn's hooks, each in a process of its own: they change the process that they are called in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent

STAGE = """
import gc, os, sys
from types import SimpleNamespace
from app import gunicorn_conf
from app.telemetry.metrics import SharedMetrics

NO_PROCESS = 2**30  # beyond the greatest id that Linux gives


class Model:
    def __init__(self, name):
        self.name, self.itself = name, self


class Registry:
    def load(self):
        self.kept = Model("kept")
        Model("dropped")

    def summary(self):
        return "none"

    def worker_crashed(self, ran):
        self.ran = ran


class Keys:
    def prepare(self, public):
        self.public = public


registry, metrics, keys = Registry(), SharedMetrics(), Keys()
wsgi = SimpleNamespace(extensions={"retort": registry, "retort_metrics": metrics, "retort_keys": keys})
server = SimpleNamespace(
    app=SimpleNamespace(wsgi=lambda: wsgi),
    cfg=SimpleNamespace(workers=2, reuse_port=False, address=[("127.0.0.1", 0), ("0.0.0.0", 0), "/run/a.sock"]),
    reap_workers=lambda: None,
    murder_workers=lambda: None,
    spawn_worker=lambda: None,
    stop=lambda: None,
    worker_class=gunicorn_conf.RetortWorker,
)
gunicorn_conf._applications = lambda: [wsgi]
"""


def run(script: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", STAGE + script],
        cwd=ROOT,
        env={"LISTEN_FDS": "1", **settings},  # so that nothing checks whether the port is free
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_longest_drain_delay_is_kept_and_the_shortest_queue_is_one() -> None:
    done = run(
        "from app.server.worker import KILLED_BEFORE_S\n"
        "limits = gunicorn_conf.RetortWorker.limits\n"
        "assert limits.drain_delay_s == gunicorn_conf.graceful_timeout - KILLED_BEFORE_S, limits\n"
        "assert limits.queue_requests == 1\n",
        RETORT_DRAIN_DELAY_S="18",
        RETORT_QUEUE_REQUESTS="1",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_objects_from_before_the_fork_are_not_searched_for_garbage() -> None:
    done = run(
        "gc.disable()\n"
        "gunicorn_conf.on_starting(server)\n"
        "assert registry.kept.name == 'kept'\n"
        "assert gc.get_freeze_count() > 1000\n"
        "seen = [each for each in gc.get_objects() if isinstance(each, Model)]\n"
        "assert not seen, 'the collector would write into it, and unshare its pages'\n"
        "gc.unfreeze()\n"
        "names = [each.name for each in gc.get_objects() if isinstance(each, Model)]\n"
        "assert names == ['kept'], 'what nobody needs is freed before the rest is frozen'\n"
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_settings_loads_no_library_that_reads_its_number_of_threads() -> None:
    """OpenBLAS and OpenMP read it when they are loaded, and never again."""
    done = run(
        "assert os.environ['OMP_NUM_THREADS'] == os.environ['OPENBLAS_NUM_THREADS'] == '1'\n"
        "assert os.environ['JE_ARROW_MALLOC_CONF'] == 'background_thread:false'\n"
        "loaded = {'numpy', 'pyarrow', 'sklearn', 'onnxruntime'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    assert done.returncode == 0, done.stderr


def test_a_new_worker_gets_the_number_of_an_ended_one() -> None:
    done = run(
        "gunicorn_conf.on_starting(server)\n"
        "workers = [SimpleNamespace(pid=NO_PROCESS + number) for number in range(3)]\n"
        "for worker in workers[:2]:\n"
        "    gunicorn_conf.pre_fork(server, worker)\n"
        "if os.fork() == 0:\n"
        "    gunicorn_conf.post_fork(server, workers[0])\n"
        "    metrics.run_began('iris', 2)\n"
        "    os._exit(7)\n"
        "os.wait()\n"
        "gunicorn_conf.child_exit(server, workers[0])\n"
        "assert registry.ran == {('iris', 2): 1.0}, 'it died in this'\n"
        "gunicorn_conf.pre_fork(server, workers[2])\n"
        "assert [worker.retort_numbers for worker in workers] == [[1], [2], [1]]\n"
        "assert metrics.samples()['retort_worker_restarts'] == {(): (1.0,)}\n"
        "gunicorn_conf.child_exit(server, SimpleNamespace(pid=NO_PROCESS))\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_hook_for_an_ended_worker_does_not_end_the_master() -> None:
    """Gunicorn calls the hook in the master too, for a worker that had ended when it was signalled."""
    done = run(
        "gunicorn_conf.on_starting(server)\n"
        "worker = SimpleNamespace(pid=NO_PROCESS)\n"
        "gunicorn_conf.pre_fork(server, worker)\n"
        "gunicorn_conf.worker_exit(server, worker)\n"
        "assert metrics.samples()['retort_worker_restarts'] == {(): (1.0,)}\n"
        "sys.exit(7)\n"
    )
    assert done.returncode == 7, done.stderr


def test_a_worker_ends_with_its_exit_status() -> None:
    done = run(
        "try:\n    sys.exit(3)\nfinally:\n    gunicorn_conf.worker_exit(server, SimpleNamespace(pid=os.getpid()))\n"
    )
    assert done.returncode == 3, done.stderr


def test_gunicorn_itself_trusts_no_forwarded_field_not_even_on_a_unix_socket() -> None:
    """It trusts every client of a Unix socket, whatever `forwarded_allow_ips` is."""
    done = run(
        "conf = gunicorn_conf\n"
        "assert (conf.forwarded_allow_ips, conf.secure_scheme_headers, conf.forwarder_headers) == ('', {}, '')\n"
    )
    assert done.returncode == 0, done.stderr


def test_a_reload_that_fails_leaves_the_master_running() -> None:
    done = run(
        "from app.errors import InvalidRepository\n"
        "for error in (InvalidRepository('repository.json cannot be read'), KeyError('odd')):\n"
        "    def reload(): raise error\n"
        "    registry.reload = reload\n"
        "    gunicorn_conf.on_reload(server)\n"
    )
    assert done.returncode == 0, done.stderr
    assert "nothing is reloaded: repository.json cannot be read" in done.stderr
    assert "KeyError" in done.stderr


@pytest.mark.parametrize(
    ("settings", "public"),
    [
        ({}, ["0.0.0.0"]),
        ({"RETORT_PUBLIC": "1"}, []),
        ({"RETORT_ENV": "development"}, []),
        ({"RETORT_PUBLIC": "0"}, ["0.0.0.0"]),
    ],
)
@pytest.mark.fault("X05")
def test_addresses_that_others_reach_need_a_key(settings: dict[str, str], public: list[str]) -> None:
    done = run(
        f"gunicorn_conf.on_starting(server)\nassert keys.public == {public!r}, keys.public\n",
        LOG_LEVEL="WARNING",
        **settings,
    )
    assert (done.returncode, done.stderr) == (0, "")
