"""Whether a slow worker with 100,000 steps before it costs fast ones anything, or memory.

`python -m bench.backpressure`. The latency of single chains is measured in turn on a system without
and on one with the backlog; the daemon's resident memory is read from /proc.
"""

from pathlib import Path

import click
import orjson
from sqlalchemy import text

from bench.system import running
from tasker_zmq.cli.benchmark import submitting
from tasker_zmq.cli.benchmark.system import System, WorkerSpec
from tasker_zmq.cli.benchmark.workloads import latencies, newest
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.protocol.commands import PublishTemplates
from tasker_zmq.protocol.tasks import InitializeTask, TaskRequest

CHAIN = Path(__file__).with_name("chain.py")
SLOW = Path(__file__).with_name("slow.py")
WIDTH = 500
WARM_UP_CHAINS = 30
CHAINS_PER_TURN = 10
CHAINS_OVER = (
    "SELECT NOT EXISTS (SELECT 1 FROM tasker_tasks t JOIN tasker_named_tasks n "
    "USING (named_task_id) WHERE t.completed_at IS NULL AND n.name = 'chain4')"
)


def one_by_one(system: System, chains: int) -> list[float]:
    """Milliseconds from request to completion as the daemon recorded them, one chain at a time."""
    before = newest(system)
    for number in range(chains):
        submitting.submit(system, "chain4", [number])
        system.wait_until(CHAINS_OVER)
    return latencies(system, "chain4", after=before)


def wide() -> dict[str, object]:
    """A workflow of many slow steps, none of which waits for another."""
    steps = [
        {"name": f"slow{number}", "handler": {"callable": "bench.slow"}} for number in range(WIDTH)
    ]
    return {"name": "wide", "namespace_name": "bench", "version": "1.0.0", "steps": steps}


def resident_mib(system: System) -> float:
    """What the daemon holds in memory, MiB."""
    status = Path(f"/proc/{system.programs[0].running.pid}/status").read_text(encoding="ascii")
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kib) / 1_024


def submit_slow(system: System, steps: int) -> int:
    """Create tasks with so many slow steps; how many there are."""
    with CommandClient(system.commands) as client:
        client.ask("PublishTemplates", PublishTemplates(templates=(wide(),)))
        for _ in range(steps // WIDTH):
            client.ask(
                "InitializeTask",
                InitializeTask(task_request=TaskRequest(namespace="bench", name="wide")),
            )
    with system.engine.connect() as connection:
        return int(
            connection.execute(text("SELECT count(*) FROM tasker_workflow_steps")).scalar_one()
        )


def percentile(latencies: list[float], part: float) -> float:
    return round(sorted(latencies)[int(len(latencies) * part)], 2)


@click.command()
@click.option("--steps", default=100_000, show_default=True, help="Slow steps that wait.")
@click.option("--chains", default=400, show_default=True, help="Measured on each system.")
def backpressure(*, steps: int, chains: int) -> None:
    """Print the daemon's growth, and p50 and p99 of chains without and with the backlog.

    Two systems side by side take turns, so that a noisy machine troubles both alike.
    """
    fast = WorkerSpec(target=CHAIN, concurrency=8)
    slow = WorkerSpec(target=SLOW, concurrency=1)
    with running([fast, fast]) as idle, running([fast, fast, slow]) as loaded:
        one_by_one(loaded, WARM_UP_CHAINS)
        memory = resident_mib(loaded)
        waiting = submit_slow(loaded, steps)
        without, beside = [], []
        for turn in range(1 + chains // CHAINS_PER_TURN):
            turns = [one_by_one(each, CHAINS_PER_TURN) for each in (idle, loaded)]
            if turn:  # the first one warms up
                without += turns[0]
                beside += turns[1]
        grown = resident_mib(loaded) - memory
    figures = {
        "steps_waiting": waiting,
        "daemon_mib": {"before": round(memory, 1), "grown": round(grown, 1)},
        "p50_ms": {"without": percentile(without, 0.5), "beside": percentile(beside, 0.5)},
        "p99_ms": {"without": percentile(without, 0.99), "beside": percentile(beside, 0.99)},
        "p50_ratio": round(percentile(beside, 0.5) / percentile(without, 0.5), 2),
        "p99_ratio": round(percentile(beside, 0.99) / percentile(without, 0.99), 2),
    }
    click.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    backpressure()
