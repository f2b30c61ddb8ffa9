"""`tasker-zmq demo` as people start it: its outcome, and that it leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

pytestmark = pytest.mark.slow

DEMO = (sys.executable, "-c", "from tasker_zmq.cli.main import main; main()", "demo")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demo makes its private folder; short, for sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


def variables(temporary: Path, **more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TASKER_", "DATABASE_URL"))
    }
    return kept | {"TMPDIR": str(temporary)} | more


def run(temporary: Path, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*DEMO, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=variables(temporary, **more),
    )


def process_ids(said: str) -> list[int]:
    """The daemon's and the workers', as the demo told them."""
    lines = [line for line in said.splitlines() if line.startswith(("daemon:", "workers:"))]
    return [
        int(each) for line in lines for each in re.findall(r"\d+", line.partition("process")[2])
    ]


def lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def left_behind(temporary: Path, said: str) -> list[str]:
    """Processes of the demo, those that name its folder, and files in it."""
    listed = subprocess.run(
        ["ps", "-eo", "args"], check=True, capture_output=True, text=True
    ).stdout
    named = [line for line in listed.splitlines() if str(temporary) in line]
    alive = [str(each) for each in process_ids(said) if lives(each)]
    return [*named, *alive, *(str(path) for path in temporary.iterdir())]


def test_the_demo_ends_as_its_orders_file_says_and_leaves_nothing(temporary: Path) -> None:
    finished = run(temporary, "--orders", "25", "-o", "json")
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    assert found["as_expected"] is True
    assert found["tasks"] == {"complete": 24, "error": 1}
    assert found["steps"] == 100
    assert found["steps_by_state"] == {"complete": 98, "error": 1, "pending": 1}
    assert found["retries"] == 4
    assert found["ledger"]["batch_completion"] == found["batches"]
    assert found["ledger"]["partial_result"] >= 98 + 1 + found["retries"]
    assert (found["consistent"], found["discrepancies"]) == (True, 0)
    assert found["invariants"]["checked"] > 0
    assert found["invariants"]["violated"] == 0
    assert found["shop"] == {
        "reservations": 25,
        "charged": 24,
        "charged_cents": 195_550,
        "declined": 1,
        "shipped": 24,
        "backordered_pieces": 1,
        "exactly_once": True,
    }
    assert found["steps_per_second"] > 0
    assert 0 < found["step_latency_ms"]["p50"] <= found["step_latency_ms"]["p95"]
    assert len(process_ids(finished.stderr)) == 3
    assert left_behind(temporary, finished.stderr) == []


def test_on_a_named_server_the_demo_works_in_a_database_of_its_own_and_drops_it(
    temporary: Path, server_url: str
) -> None:
    finished = run(
        temporary, "--orders", "5", "--workers", "1", "--seed", "7", TASKER_DATABASE_URL=server_url
    )
    assert finished.returncode == 0, finished.stderr
    assert "a database of its own, tasker_demo_" in finished.stderr
    assert "4 complete, 1 error" in finished.stdout
    engine = create_engine(server_url, poolclass=NullPool)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT datname FROM pg_database")).scalars().all()
    assert not [name for name in names if name.startswith("tasker_demo_")]
    assert left_behind(temporary, finished.stderr) == []


@pytest.mark.parametrize(
    ("number", "moment"), [(signal.SIGINT, "workers:"), (signal.SIGTERM, "database:")]
)
def test_a_demo_that_is_told_to_stop_leaves_nothing(
    temporary: Path, number: signal.Signals, moment: str
) -> None:
    with subprocess.Popen(
        [*DEMO, "--orders", "2000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables(temporary),
    ) as running:
        assert running.stderr is not None
        said = ""
        for line in running.stderr:
            said += line
            if line.startswith(moment):
                break
        running.send_signal(number)
        said += running.communicate()[1]
    assert running.returncode == 128 + number, said
    assert left_behind(temporary, said) == []


def test_a_folder_to_keep_must_be_empty(temporary: Path) -> None:
    kept = temporary / "kept"
    kept.mkdir()
    (kept / "letter.txt").write_text("mine", encoding="utf-8")
    finished = run(temporary, "--keep", str(kept))
    assert finished.returncode == 5
    assert "a new or an empty folder" in finished.stderr
    assert [path.name for path in kept.iterdir()] == ["letter.txt"]
