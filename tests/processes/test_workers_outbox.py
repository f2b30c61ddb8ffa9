"""With an outbox on disk, what a killed worker had done is recorded, and not done again."""

import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import (
    FORGIVING,
    Witness,
    assert_invariants,
    assert_one_outcome_each,
    submit_many,
)
from tests.processes.running import eventually

pytestmark = pytest.mark.slow

HANDLERS = """
import os
from tasker_zmq import step, workflow


def bear_witness(ctx):
    line = f"{ctx.task_id} {ctx.step_name} {ctx.attempt} {os.getpid()}\\n"
    with open(os.environ["WITNESS"], "a") as place:
        place.write(line)


@step
def wait_at(pipe, ctx):
    bear_witness(ctx)
    with open(pipe) as held:
        return held.read()


@step(confirm_start=True)
def pay(wait_at, ctx):
    bear_witness(ctx)
    return wait_at


paying = workflow("tests/paying@1.0.0", pay)
"""


def committed(outbox: Path, folder: Path) -> int:
    """How many results the outbox holds for good, seen in a copy, for the file itself is locked."""
    folder.mkdir(exist_ok=True)
    for name in (outbox.name, f"{outbox.name}-wal"):
        shutil.copy(outbox.with_name(name), folder / name)
    connection = sqlite3.connect(folder / outbox.name)
    try:
        return int(connection.execute("SELECT count(*) FROM unrecorded").fetchone()[0])
    except sqlite3.Error:
        return 0  # copied amid a write
    finally:
        connection.close()


def test_a_step_that_ended_before_its_worker_was_killed_is_not_run_again(
    daemon: StartDaemon, worker: StartWorker, witness: Witness, short_folder: Path
) -> None:
    running = daemon(variables=FORGIVING)
    outbox = short_folder / "outbox.db"
    arguments = ("--outbox", str(outbox))
    first = worker(running, HANDLERS, variables=witness.variables, arguments=arguments)
    pipe = witness.pipe("held")
    task_id = submit_many(running, "tests/paying@1.0.0", [{"pipe": str(pipe)}])[0]
    witness.await_run(task_id, "wait_at")
    running.send_signal(signal.SIGSTOP)
    pipe.write_text("paid", encoding="utf-8")
    copies = short_folder / "copies"
    eventually(lambda: committed(outbox, copies) == 2, "result and completion are on disk")
    first.kill()
    worker(running, HANDLERS, variables=witness.variables, arguments=arguments, sessions=None)
    running.send_signal(signal.SIGCONT)
    running.await_task(task_id)
    assert witness.attempts(task_id, "wait_at") == [1]
    assert witness.attempts(task_id, "pay") == [1]
    assert_one_outcome_each(running)
    assert_invariants(running)
