"""What `tasker-worker` is told by flags, variables, pools and files, and how it says so."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.processes.running import eventually, inherited_variables

pytestmark = pytest.mark.slow

MODULE = (sys.executable, "-m", "tasker_zmq.cli.worker")
HANDLERS = "from tasker_zmq import step\n\n@step\ndef nothing() -> None: ...\n"
POOL = "name: shop\nfiles: [handlers.py]\nconcurrency: 5\n"
FILE = "worker:\n  concurrency: 3\n  executor: async\nlog:\n  format: json\n"
BY_POOL = ("pool.yaml", "--config", "settings.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handlers.py").write_text(HANDLERS, encoding="utf-8")
    (tmp_path / "pool.yaml").write_text(POOL, encoding="utf-8")
    (tmp_path / "settings.yaml").write_text(FILE, encoding="utf-8")
    return tmp_path


def started(folder: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    """What the worker's first record says; no daemon is there."""
    log = folder / "worker.log"
    with log.open("wb") as said:
        running = subprocess.Popen(
            [*MODULE, *arguments, "--commands", "tcp://127.0.0.1:1"],
            cwd=folder,
            env=inherited_variables() | variables,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: b"worker_starting" in log.read_bytes(), "it says how it starts")
    finally:
        running.kill()
        running.wait()
    return dict(orjson.loads(log.read_bytes().splitlines()[0]))


def refused(folder: Path, *arguments: str) -> tuple[int, str]:
    finished = subprocess.run(
        [*MODULE, *arguments],
        check=False,
        cwd=folder,
        env=inherited_variables(),
        capture_output=True,
        text=True,
    )
    return finished.returncode, finished.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "concurrency"),
    [
        (("handlers.py", "--config", "settings.yaml"), {}, 3),
        (BY_POOL, {}, 5),
        (BY_POOL, {"TASKER_WORKER_CONCURRENCY": "6"}, 6),
        ((*BY_POOL, "--concurrency", "7"), {"TASKER_WORKER_CONCURRENCY": "6"}, 7),
    ],
    ids=["file", "pool over file", "variable over pool", "flag over variable"],
)
def test_flags_outrank_variables_those_the_pool_and_that_the_file(
    folder: Path, arguments: tuple[str, ...], variables: dict[str, str], concurrency: int
) -> None:
    said = started(folder, *arguments, **variables)
    assert (said["concurrency"], said["executor"]) == (concurrency, "async")


def test_a_workers_records_look_like_a_daemons(folder: Path) -> None:
    said = started(folder, *BY_POOL)
    assert list(said)[:4] == ["time", "level", "event", "logger"]
    assert (said["level"], said["event"]) == ("info", "worker_starting")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--concurrency", "0"), "'worker.concurrency' wants a whole number from 1 to 10000"),
        (("--drain-seconds", "soon"), "'worker.drain_seconds' wants a duration"),
        (("--commands", "5557"), "'worker.commands' wants a list, each tcp://HOST:PORT"),
        (("--config", "absent.yaml"), "no settings file at absent.yaml, which --config names"),
        (("--executer", "thread"), "'--executor'"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused_with_what_would(
    folder: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    code, said = refused(folder, "handlers.py", *arguments)
    assert code == 2
    assert sentence in said
    assert said.startswith("error: ")


def test_a_setting_that_is_none_is_refused_with_the_nearest(folder: Path) -> None:
    (folder / "settings.yaml").write_text("worker:\n  concurency: 3\n", encoding="utf-8")
    code, said = refused(folder, *BY_POOL)
    assert code == 2
    assert "unknown setting 'worker.concurency' in settings.yaml:2" in said
    assert "did you mean 'worker.concurrency'?" in said
