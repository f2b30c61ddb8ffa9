"""Whether a slow worker with 100,000 steps before it costs fast ones anything, or memory.

`python -m bench.backpressure`. The latency of single chains is measured before and after, in the
same run; the daemon's resident memory is read from /proc.
"""

from pathlib import Path

import click
import orjson
from sqlalchemy import text

from bench.chains import CHAIN, one_by_one
from bench.system import System, WorkerSpec, running
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.protocol.commands import InitializeTask, PublishTemplates, TaskRequest

SLOW = Path(__file__).with_name("slow.py")
WIDTH = 500
WARM_UP_CHAINS = 30


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
@click.option("--chains", default=150, show_default=True, help="Measured before and after.")
def backpressure(*, steps: int, chains: int) -> None:
    """Print the daemon's growth and the chains' p50 and p99 without and with the backlog."""
    fast = WorkerSpec(target=CHAIN, concurrency=8)
    slow = WorkerSpec(target=SLOW, concurrency=1)
    open_chains = "SELECT NOT EXISTS (SELECT 1 FROM tasker_tasks t JOIN tasker_named_tasks n "
    open_chains += "USING (named_task_id) WHERE t.completed_at IS NULL AND n.name = 'chain4')"
    with running([fast, fast, slow]) as system:
        one_by_one(system, WARM_UP_CHAINS, until=open_chains)
        before, memory = one_by_one(system, chains, until=open_chains), resident_mib(system)
        waiting = submit_slow(system, steps)
        one_by_one(system, WARM_UP_CHAINS, until=open_chains)
        after, grown = one_by_one(system, chains, until=open_chains), resident_mib(system)
    figures = {
        "steps_waiting": waiting,
        "daemon_mib": {"before": round(memory, 1), "grown": round(grown - memory, 1)},
        "p50_ms": {"before": percentile(before, 0.5), "after": percentile(after, 0.5)},
        "p99_ms": {"before": percentile(before, 0.99), "after": percentile(after, 0.99)},
        "p50_ratio": round(percentile(after, 0.5) / percentile(before, 0.5), 2),
        "p99_ratio": round(percentile(after, 0.99) / percentile(before, 0.99), 2),
    }
    click.echo(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    backpressure()
