"""How soon a task that SQL asked for is picked up: told by NOTIFY, and found by the sweep alone.

From the commit of the submission to the batch of its first step, by the clocks of one machine. And
how many connections one core keeps open. `python -m bench.pickup`
"""

import statistics
import time
from collections.abc import Callable
from typing import Final

import click
from sqlalchemy import text

from bench.system import running
from tasker_zmq.cli.benchmark.system import System, WorkerSpec
from tasker_zmq.cli.benchmark.workloads import LOAD
from tasker_zmq.clock import SystemClock

WORKFLOW: Final = "bench/chain4"
PUSHED: Final = text('SELECT tasker_submit_task(:workflow, \'{"order": {"id": 1}}\')')
# What the function does, but for telling anybody.
QUIETLY: Final = text(
    """
INSERT INTO tasker_submissions (task_id, named_task_id, context, initiator, due_at)
SELECT nextval(pg_get_serial_sequence('tasker_tasks', 'task_id')), max(named_task_id),
    '{"order": {"id": 1}}', 'bench', '-infinity' FROM tasker_named_tasks
RETURNING task_id
"""
)
SENT: Final = (
    "SELECT EXISTS (SELECT FROM tasker_workflow_steps WHERE task_id = :task_id "
    "AND started_at IS NOT NULL)"
)
STARTED_AT: Final = text(
    "SELECT min(started_at) FROM tasker_workflow_steps WHERE task_id = :task_id"
)
CONNECTIONS: Final = text(
    "SELECT application_name, count(*) AS n FROM pg_stat_activity "
    "WHERE application_name LIKE 'tasker-zmq %' AND application_name <> 'tasker-zmq bench' "
    "GROUP BY 1 ORDER BY 1"
)

Submit = Callable[[System], int]


def pushed(system: System) -> int:
    with system.engine.begin() as connection:
        return int(connection.execute(PUSHED, {"workflow": WORKFLOW}).scalar_one())


def quietly(system: System) -> int:
    with system.engine.begin() as connection:
        return int(connection.execute(QUIETLY).scalar_one())


def taken(system: System, submit: Submit, *, times: int) -> list[float]:
    """Milliseconds from the commit to the first step's batch, one task after the other."""
    found = []
    clock = SystemClock()
    for _ in range(times):
        task_id = submit(system)
        committed_at = clock.now()
        system.wait_until(SENT, task_id=task_id)
        with system.engine.connect() as connection:
            started_at = connection.execute(STARTED_AT, {"task_id": task_id}).scalar_one()
        found.append((started_at - committed_at).total_seconds() * 1_000)
        time.sleep(0.05)
    return sorted(found)


def told(name: str, milliseconds: list[float]) -> str:
    p95 = milliseconds[int(len(milliseconds) * 0.95)]
    median = statistics.median(milliseconds)
    return f"{name:<16} {len(milliseconds):>5} {median:>9.1f} {p95:>9.1f} {milliseconds[-1]:>9.1f}"


@click.command()
@click.option("--pushes", default=50, show_default=True)
@click.option("--sweeps", default=10, show_default=True, help="Each takes seconds.")
def bench(*, pushes: int, sweeps: int) -> None:
    """Print how long submissions wait, and the daemon's connections."""
    with running([WorkerSpec(target=LOAD, concurrency=8)]) as system:
        taken(system, pushed, times=5)
        click.echo("picked up by     tasks    p50 ms    p95 ms    max ms")
        click.echo(told("push", taken(system, pushed, times=pushes)))
        click.echo(told("sweep alone", taken(system, quietly, times=sweeps)))
        with system.engine.connect() as connection:
            rows = connection.execute(CONNECTIONS).fetchall()
    purposes = ", ".join(f"{row.n} {row.application_name.split(' ', 1)[1]}" for row in rows)
    click.echo(f"connections of one core: {sum(row.n for row in rows)} ({purposes})")


if __name__ == "__main__":
    bench()
