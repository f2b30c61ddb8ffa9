"""A steady load for as long as you like shows whether anything grows that should not.

Chains of four steps at a rate well below saturation, on a daemon, two workers and a PostgreSQL of
their own. A line every few seconds, then verdicts, last quarter beside the second: memory, latency,
dead rows. Nothing is ever deleted: there is no retention yet, so the tables themselves grow.
`python -m bench.soak --minutes 10`, or `make soak MINUTES=10`; exit code 1 if a verdict is missed.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import click
import orjson
from sqlalchemy import text

from bench.system import running
from tasker_zmq.cli.benchmark.costs import resident_mib
from tasker_zmq.cli.benchmark.filling import fill
from tasker_zmq.cli.benchmark.submitting import request
from tasker_zmq.cli.benchmark.system import System, WorkerSpec
from tasker_zmq.cli.benchmark.workloads import LOAD, percentiles
from tasker_zmq.cli.client import CommandClient

WORKFLOW: Final = "chain4"
WORKERS: Final = 2
GROWN_MEMORY_MAX: Final = 1.10
GROWN_LATENCY_MAX: Final = 1.5
GROWN_OPEN_MAX: Final = 2.0
GROWN_DEAD_MAX: Final = 2.0
DEAD_IN_ANY_CASE: Final = 10_000  # so many do not matter, however many there were before
REST_SECONDS: Final = 0.02
SAMPLES_MIN: Final = 8
AUTOVACUUM_SECONDS: Final = 60  # how often PostgreSQL looks, as it comes: a quarter is to hold some
HOT: Final = (
    "tasker_tasks",
    "tasker_workflow_steps",
    "tasker_step_execution_batches",
    "tasker_step_execution_batch_transitions",
    "tasker_worker_registrations",
    "tasker_worker_transport_availability",
    "tasker_cores",
    "tasker_distributed_processing_locks",
)
_DONE: Final = (
    "SELECT array_agg((extract(epoch FROM completed_at - requested_at) * 1000)::float8) "
    "FROM tasker_tasks WHERE task_id > :after AND completed_at > :since AND completed_at <= :until"
)
_OPEN: Final = "SELECT count(*) FROM tasker_tasks WHERE completed_at IS NULL"
_OLDEST: Final = (
    "SELECT coalesce(min(task_id) - 1, :newest) FROM tasker_tasks WHERE completed_at IS NULL"
)
_AS_IT_COMES: Final = (
    "autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_limit"
)
_NEWEST: Final = "SELECT coalesce(max(task_id), 0) FROM tasker_tasks"
_NOW: Final = "SELECT clock_timestamp()"
_TABLES: Final = (
    "SELECT json_object_agg(relname, json_build_array(n_dead_tup, pg_total_relation_size(relid))) "
    "FROM pg_stat_user_tables WHERE relname = ANY (CAST(:tables AS text[]))"
)
_XMIN: Final = (
    "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 "
    "FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was seen at the end of one interval; latencies are of the tasks that ended in it."""

    seconds: float
    done: int
    open: int
    p50_ms: float
    p95_ms: float
    daemon_mib: float
    workers_mib: float
    dead: dict[str, int]
    bytes: int
    xmin_age_seconds: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One promise; `ratio` is the last quarter's figure by that of the second."""

    what: str
    ratio: float
    ratio_max: float
    met: bool


class Load:
    """So many tasks a second, whatever becomes of them."""

    def __init__(self, client: CommandClient, *, rate: float) -> None:
        self._client, self._rate = client, rate
        self._began, self._sent = time.perf_counter(), 0

    def submit_next(self) -> bool:
        """Submit one task if one is due by now; whether there was one."""
        if (time.perf_counter() - self._began) * self._rate < self._sent + 1:
            return False
        self._client.ask("InitializeTask", request(WORKFLOW, self._sent))
        self._sent += 1
        return True


class Watch:
    """Takes samples; each covers the time since the one before."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._began = time.perf_counter()
        self._since = system.scalar(_NOW)
        self._after = system.scalar(_NEWEST)

    def sample(self) -> Sample:
        system = self._system
        for program in system.programs:
            program.check()
        until = system.scalar(_NOW)
        values = {"after": self._after, "since": self._since, "until": until}
        newest = system.scalar(_NEWEST)
        found = system.scalar(_DONE, **values)
        self._since, self._after = until, system.scalar(_OLDEST, newest=newest)
        taken = [float(each) for each in found] if isinstance(found, list) else []
        told = percentiles(taken) if taken else {"p50": 0.0, "p95": 0.0}
        tables = system.scalar(_TABLES, tables=list(HOT))
        rows = tables if isinstance(tables, dict) else {}
        return Sample(
            seconds=round(time.perf_counter() - self._began, 1),
            done=len(taken),
            open=int(str(system.scalar(_OPEN))),
            p50_ms=told["p50"],
            p95_ms=told["p95"],
            daemon_mib=round(resident_mib([system.daemon]), 1),
            workers_mib=round(resident_mib(system.workers), 1),
            dead={name: dead for name, (dead, _) in rows.items()},
            bytes=sum(size for _, size in rows.values()),
            xmin_age_seconds=round(float(str(system.scalar(_XMIN))), 2),
        )


def samples(system: System, *, seconds: float, every: float, rate: float) -> Iterator[Sample]:
    """Keep the load up for so long."""
    with CommandClient(system.commands) as client:
        load, watch = Load(client, rate=rate), Watch(system)
        began = time.perf_counter()
        look_at = began + every
        while look_at <= began + seconds:
            if not load.submit_next():
                system.rest(REST_SECONDS)
            if time.perf_counter() >= look_at:
                yield watch.sample()
                look_at += every


def forget_settings(system: System) -> None:
    """Vacuum as PostgreSQL would without being told: when a fifth of a table's rows are dead."""
    with system.engine.begin() as connection:
        for table in HOT:
            connection.execute(text(f"ALTER TABLE {table} RESET ({_AS_IT_COMES})"))


def quarters(found: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The second and the last; the first one warms up."""
    each = len(found) // 4
    return found[each : 2 * each], found[-each:]


def judge(found: Sequence[Sample], *, rate: float) -> list[Verdict]:
    """What of it grew; tasks of one second of `rate` may be open in any case."""
    before, after = quarters(found)

    def grown(what: str, limit: float, values: tuple[float, float]) -> Verdict:
        ratio = values[1] / values[0] if values[0] else 1.0
        return Verdict(what=what, ratio=round(ratio, 3), ratio_max=limit, met=ratio <= limit)

    def medians(name: str) -> tuple[float, float]:
        first, second = (
            statistics.median(getattr(each, name) for each in part) for part in (before, after)
        )
        return first, second

    open_before, open_after = medians("open")
    dead = [max(sum(each.dead.values()) for each in part) for part in (before, after)]
    return [
        grown("memory of the daemon", GROWN_MEMORY_MAX, medians("daemon_mib")),
        grown("memory of the workers", GROWN_MEMORY_MAX, medians("workers_mib")),
        grown("open tasks", GROWN_OPEN_MAX, (max(open_before, rate), open_after)),
        grown("latency p50", GROWN_LATENCY_MAX, medians("p50_ms")),
        grown("latency p95", GROWN_LATENCY_MAX, medians("p95_ms")),
        grown("most dead rows", GROWN_DEAD_MAX, (max(dead[0], DEAD_IN_ANY_CASE), dead[1])),
    ]


HEADING: Final = (
    "seconds    done  open  p50 ms  p95 ms  daemon  workers    dead  "
    "most dead in                         MiB  xmin s"
)


def line(seen: Sample) -> str:
    most = max(seen.dead, key=lambda name: seen.dead[name], default="")
    worst = f"{most.removeprefix('tasker_')} {seen.dead.get(most, 0)}"
    return (
        f"{seen.seconds:>7.0f} {seen.done:>7} {seen.open:>5} {seen.p50_ms:>7.1f} "
        f"{seen.p95_ms:>7.1f} {seen.daemon_mib:>7.1f} {seen.workers_mib:>8.1f} "
        f"{sum(seen.dead.values()):>7}  {worst:<34} {seen.bytes / 2**20:>7.1f} "
        f"{seen.xmin_age_seconds:>7.2f}"
    )


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=10.0, show_default=True)
@click.option("--rate", type=click.FloatRange(0.1, 1_000), default=20.0, show_default=True)
@click.option("--every", type=click.FloatRange(0.5, 600), default=10.0, show_default=True)
@click.option("--filled", type=click.IntRange(min=0), default=0, help="Finished tasks before.")
@click.option("--plain", is_flag=True, help="Without the hot tables' own vacuum settings.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def main(
    *, minutes: float, rate: float, every: float, filled: int, plain: bool, output: str
) -> None:
    """Keep RATE chains of four steps a second up, and judge what grew."""
    if minutes * 60 / every < SAMPLES_MIN:
        raise click.UsageError(
            f"{minutes:g} minutes are fewer than {SAMPLES_MIN} intervals of {every:g} s, too few "
            "to compare quarters; take more --minutes, or look more often: --every 1"
        )
    if output == "table":
        click.echo(HEADING)
    found: list[Sample] = []
    with running([WorkerSpec(target=LOAD, concurrency=32)] * WORKERS) as system:
        if plain:
            forget_settings(system)
        if filled:
            fill(system, filled)
        for seen in samples(system, seconds=minutes * 60, every=every, rate=rate):
            found.append(seen)
            click.echo(line(seen) if output == "table" else orjson.dumps(asdict(seen)))
    verdicts = judge(found, rate=rate)
    if output == "json":
        click.echo(orjson.dumps({"verdicts": [asdict(each) for each in verdicts]}))
    else:
        _tell(verdicts, minutes)
    if not all(each.met for each in verdicts):
        raise SystemExit(1)


def _tell(verdicts: Sequence[Verdict], minutes: float) -> None:
    click.echo("the last quarter by the second:")
    for each in verdicts:
        word = "met" if each.met else "MISSED"
        click.echo(f"  {each.what:<22} {each.ratio:>6.2f} of at most {each.ratio_max:.2f}: {word}")
    click.echo("  nothing was deleted: there is no retention yet, and the tables grow")
    if minutes * 60 / 4 < 2 * AUTOVACUUM_SECONDS:
        click.echo("  a quarter holds no two vacuums: of dead rows this run says little")


if __name__ == "__main__":
    main()
