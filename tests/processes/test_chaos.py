"""`tasker-zmq chaos` as people start it: its counts, and that it leaves nothing behind."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.running import inherited_variables

pytestmark = pytest.mark.slow

CHAOS = (sys.executable, "-c", "from tasker_zmq.cli.main import main; main()", "chaos")
SHAPE = {
    "seed",
    "minutes",
    "faults",
    "steps",
    "lost",
    "applied_twice",
    "executed_twice",
    "violations",
    "recovery_seconds",
}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where chaos makes its private folder; short, for sockets have short names."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        yield Path(folder)


def left_behind(temporary: Path) -> list[str]:
    """Processes that name its folder, and files in it."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,args"], check=True, capture_output=True, text=True
    ).stdout
    named = [line for line in listed.splitlines() if str(temporary) in line]
    return [*named, *(str(path) for path in temporary.iterdir())]


def of_its_environment(temporary: Path) -> list[str]:
    """Processes whose environment names its folder: workers and daemons do not in their words."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            said = place.read_bytes()
        except OSError:
            continue
        if f"TMPDIR={temporary}".encode() in said:
            found.append(place.parent.name)
    return found


def test_a_short_chaos_loses_nothing_and_leaves_nothing(temporary: Path) -> None:
    finished = subprocess.run(
        [*CHAOS, "--minutes", "0.15", "--seed", "7", "--workers", "2", "-o", "json"],
        check=False,
        capture_output=True,
        text=True,
        env=inherited_variables() | {"TMPDIR": str(temporary)},
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)
    assert found.keys() >= SHAPE
    assert found["seed"] == 7
    assert (found["lost"], found["applied_twice"], found["violations"]) == (0, 0, [])
    assert sum(found["faults"].values()) > 0
    assert found["steps"] > 0
    assert left_behind(temporary) == []
    assert of_its_environment(temporary) == []


def test_a_chaos_that_is_told_to_stop_amid_a_fault_leaves_nothing(temporary: Path) -> None:
    with subprocess.Popen(
        [*CHAOS, "--minutes", "5", "--seed", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited_variables() | {"TMPDIR": str(temporary)},
    ) as running:
        assert running.stderr is not None
        said = ""
        for line in running.stderr:
            said += line
            if " s  " in line:
                break
        running.send_signal(signal.SIGINT)
        said += running.communicate()[1]
    assert running.returncode == 128 + signal.SIGINT, said
    assert left_behind(temporary) == []
    assert of_its_environment(temporary) == []
