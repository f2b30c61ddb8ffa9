"""The workloads: what is submitted, and which figure is taken from the rows afterwards.

Times are the daemon's own, from the rows: from the tick that created a task to the tick that
finished it. So nothing of the measuring program is in them.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tasker_zmq.cli.benchmark import load, submitting
from tasker_zmq.cli.benchmark.costs import Costs, peak_mib
from tasker_zmq.cli.benchmark.system import ALL_OVER, SETTLED, System, WorkerSpec
from tasker_zmq.cli.client import CommandClient

LOAD: Final = load.__name__
MAP_WIDTH: Final = 9_999  # with the step that awaits them all, as many as a template may have
FAN_WIDTH: Final = 100
BACKLOG_WIDTH: Final = 500
BACKLOG_STEPS: Final = 100_000
TASKS_MIN: Final = 20
PATIENCE: Final = 0.9  # of the shortest time that a task took
COUNTED_LATE_SECONDS: Final = 12.0  # PostgreSQL adds a session's transactions up to 10 s later
PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured; `seconds` is what a workload of throughput is to take, about."""

    seconds: float
    workers: int
    concurrency: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a workload came to; what it does not tell is None."""

    steps_per_second: float | None = None
    latency_ms: Mapping[str, float] | None = None
    cpu_seconds_per_1000_steps: Mapping[str, float | None] | None = None
    peak_rss_mib: Mapping[str, float] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One row of the table; `floor` names what its figure is compared with."""

    name: str
    summary: str
    measure: Callable[[System, Scale], Figures]
    floor: str | None = None
    slow_workers: bool = False

    def workers(self, scale: Scale) -> Sequence[WorkerSpec]:
        concurrency = 1 if self.slow_workers else scale.concurrency
        return [WorkerSpec(target=LOAD, concurrency=concurrency)] * scale.workers


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """By nearest rank."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        name: round(ordered[min(last, int(len(ordered) * part))], 2)
        for name, part in PERCENTILES.items()
    }


def _peaks(system: System) -> dict[str, float]:
    return {
        "daemon": round(peak_mib([system.daemon]), 1),
        "workers": round(peak_mib(system.workers), 1),
    }


def latencies(system: System, name: str, *, after: int) -> list[float]:
    """Milliseconds of each task of that workflow with a higher id, as the daemon recorded them."""
    found = system.scalar(
        "SELECT array_agg((extract(epoch FROM completed_at - requested_at) * 1000)::float8) "
        "FROM tasker_tasks t JOIN tasker_named_tasks n USING (named_task_id) "
        "WHERE task_id > :after AND n.name = :name",
        after=after,
        name=name,
    )
    return [float(each) for each in found] if isinstance(found, list) else []


def newest(system: System) -> int:
    """The id of the task that was made last, 0 when there is none."""
    return int(str(system.scalar("SELECT coalesce(max(task_id), 0) FROM tasker_tasks")))


def _rate(system: System, after: int) -> tuple[float, int]:
    """Steps a second from the first request to the last completion, and how many steps."""
    with_steps = (
        "FROM tasker_tasks t JOIN tasker_workflow_steps s USING (task_id) WHERE t.task_id > :after"
    )
    steps = int(str(system.scalar(f"SELECT count(*) {with_steps}", after=after)))
    seconds = system.scalar(
        "SELECT extract(epoch FROM max(completed_at) - min(requested_at))::float8 "
        "FROM tasker_tasks WHERE task_id > :after",
        after=after,
    )
    return steps / float(str(seconds)), steps


def _run(system: System, name: str, tasks: int) -> None:
    submitting.submit(system, name, range(tasks))
    system.wait_until(ALL_OVER)


@dataclass
class _Alone:
    """Runs tasks one at a time; hardly looks before they can be over: that would delay them."""

    system: System
    client: CommandClient
    _seconds_min: float = 0.0

    def run(self, name: str) -> None:
        started = time.perf_counter()
        self.client.ask("InitializeTask", submitting.request(name, 0))
        time.sleep(self._seconds_min * PATIENCE)
        self.system.wait_until(ALL_OVER)
        taken = time.perf_counter() - started
        self._seconds_min = min(self._seconds_min or taken, taken)


def throughput(name: str, *, warm_up: int) -> Callable[[System, Scale], Figures]:
    """Many tasks at once; a first few say how many fit into the time."""

    def measure(system: System, scale: Scale) -> Figures:
        _run(system, name, warm_up)
        started = time.perf_counter()
        _run(system, name, warm_up)
        taken = time.perf_counter() - started
        tasks = max(warm_up, round(warm_up / taken * scale.seconds))
        before = newest(system)
        system.wait_until(SETTLED)
        costs = Costs.of(system)
        _run(system, name, tasks)
        system.wait_until(SETTLED)
        used = Costs.of(system)
        rate, steps = _rate(system, before)
        return Figures(
            steps_per_second=round(rate, 1),
            cpu_seconds_per_1000_steps=used.since(costs, steps=steps),
            peak_rss_mib=_peaks(system),
            more={"tasks": tasks},
        )

    return measure


def latency(name: str, *, warm_up: int, steps: int) -> Callable[[System, Scale], Figures]:
    """One task at a time on a system that does nothing else."""

    def measure(system: System, scale: Scale) -> Figures:
        with CommandClient(system.commands) as client:
            alone = _Alone(system, client)
            for _ in range(warm_up):
                alone.run(name)
            before, number = newest(system), 0
            until = time.perf_counter() + scale.seconds
            while time.perf_counter() < until or number < TASKS_MIN:
                alone.run(name)
                number += 1
        taken = percentiles(latencies(system, name, after=before))
        per_step = {key: round(value / steps, 2) for key, value in taken.items()}
        return Figures(
            latency_ms=taken,
            peak_rss_mib=_peaks(system),
            more={"tasks": number, "ms_per_step": per_step},
        )

    return measure


def fanned(name: str, width: int, *, head: bool) -> Callable[[System, Scale], Figures]:
    """A wide workflow: alone for its latency, then some at once for the throughput."""
    rate = throughput(name, warm_up=1 if width > FAN_WIDTH else 10)
    alone = latency(name, warm_up=0, steps=1)

    def measure(system: System, scale: Scale) -> Figures:
        submitting.publish(system, load.fan(name, width, head=head))
        figures = rate(system, scale)
        single = Scale(seconds=0, workers=scale.workers, concurrency=scale.concurrency)
        told = alone(system, single) if width <= FAN_WIDTH else figures
        return Figures(
            steps_per_second=figures.steps_per_second,
            latency_ms=told.latency_ms,
            cpu_seconds_per_1000_steps=figures.cpu_seconds_per_1000_steps,
            peak_rss_mib=figures.peak_rss_mib,
            more={**figures.more, "width": width},
        )

    return measure


def submission_one_by_one(system: System, scale: Scale) -> Figures:
    """A client that waits for each answer before it asks again."""
    taken: list[float] = []
    until = time.perf_counter() + scale.seconds
    with CommandClient(system.commands) as client:
        while time.perf_counter() < until or len(taken) < TASKS_MIN:
            system.interruption.check()
            started = time.perf_counter()
            client.ask("InitializeTask", submitting.request("nap", len(taken)))
            taken.append((time.perf_counter() - started) * 1_000)
    rate = len(taken) / (sum(taken) / 1_000)
    return Figures(latency_ms=percentiles(taken), more={"tasks_per_second": round(rate, 1)})


def submissions(
    submit: Callable[[System, str, Iterable[int]], None], *, per_second: int
) -> Callable[[System, Scale], Figures]:
    """A client with much under way; the steps of the tasks take long and wait."""

    def measure(system: System, scale: Scale) -> Figures:
        tasks, costs = round(per_second * scale.seconds), Costs.of(system)
        started = time.perf_counter()
        submit(system, "nap", range(tasks))
        rate = tasks / (time.perf_counter() - started)
        return Figures(
            cpu_seconds_per_1000_steps=Costs.of(system).since(costs, steps=tasks),
            peak_rss_mib=_peaks(system),
            more={"tasks": tasks, "tasks_per_second": round(rate, 1)},
        )

    return measure


def mixed(system: System, scale: Scale) -> Figures:
    """Chains one at a time beside steps that take a second and keep half of the places busy."""
    naps = round(scale.seconds * scale.workers * scale.concurrency / 2)
    before = newest(system)
    submitting.submit(system, "nap", range(naps))
    over = (
        "SELECT NOT EXISTS (SELECT 1 FROM tasker_tasks t JOIN tasker_named_tasks n "
        "USING (named_task_id) WHERE n.name = 'chain4' AND t.completed_at IS NULL)"
    )
    until, number = time.perf_counter() + scale.seconds, 0
    while time.perf_counter() < until or number < TASKS_MIN:
        submitting.submit(system, "chain4", [number])
        system.wait_until(over)
        number += 1
    return Figures(
        latency_ms=percentiles(latencies(system, "chain4", after=before)),
        peak_rss_mib=_peaks(system),
        more={"chains": number, "naps": naps},
    )


def idle(system: System, scale: Scale) -> Figures:
    """What a system costs that has nothing to do: queries a minute, parts of a processor."""
    _run(system, "chain4", 1)
    system.rest(COUNTED_LATE_SECONDS)
    seconds = max(10.0, scale.seconds)
    before, costs = _transactions(system), Costs.of(system)
    system.rest(seconds)
    used, after = Costs.of(system), _transactions(system)
    return Figures(
        peak_rss_mib=_peaks(system),
        more={
            "transactions_per_minute": round((after - before) / seconds * 60, 1),
            "daemon_percent_of_a_processor": round((used.daemon - costs.daemon) / seconds * 100, 2),
            "workers_percent_of_a_processor": round(
                (used.workers - costs.workers) / seconds * 100, 2
            ),
        },
    )


def _transactions(system: System) -> int:
    """Those of the measuring program itself are few, and in the count."""
    counted = (
        "SELECT xact_commit + xact_rollback FROM pg_stat_database "
        "WHERE datname = current_database()"
    )
    return int(str(system.scalar(counted)))


def backlog(system: System, scale: Scale) -> Figures:
    """The daemon's memory while 100,000 steps wait for two places."""
    before = peak_mib([system.daemon])
    template = load.fan("backlog", BACKLOG_WIDTH - 1, head=False)
    template["steps"] = [{**each, "handler": {"callable": load.SLOW}} for each in template["steps"]]
    submitting.publish(system, template)
    tasks = BACKLOG_STEPS // BACKLOG_WIDTH
    # One by one: of tasks with so many steps hardly any would fit into one command.
    submitting.submit_pipelined(system, "backlog", range(tasks))
    system.rest(min(5.0, scale.seconds))
    return Figures(
        peak_rss_mib=_peaks(system),
        more={
            "steps_waiting": tasks * BACKLOG_WIDTH,
            "daemon_grown_mib": round(peak_mib([system.daemon]) - before, 1),
        },
    )


WORKLOADS: Final[Mapping[str, Workload]] = {
    each.name: each
    for each in (
        Workload(
            name="chain4",
            summary="4-step chains, all at once",
            measure=throughput("chain4", warm_up=100),
            floor="throughput",
        ),
        Workload(
            name="chain4-latency",
            summary="4-step chains, one at a time",
            measure=latency("chain4", warm_up=20, steps=4),
            floor="latency",
        ),
        Workload(
            name="fan",
            summary="1-100-1",
            measure=fanned("fan", FAN_WIDTH, head=True),
        ),
        Workload(
            name="map",
            summary="9,999 steps side by side and one that awaits them",
            measure=fanned("map", MAP_WIDTH, head=False),
        ),
        Workload(
            name="single",
            summary="tasks of one step, all at once",
            measure=throughput("single", warm_up=200),
        ),
        Workload(
            name="submit",
            summary="submissions, each after the answer to the last",
            measure=submission_one_by_one,
            slow_workers=True,
        ),
        Workload(
            name="submit-bulk",
            summary="submissions, hundreds by one command",
            measure=submissions(submitting.submit, per_second=8_000),
            slow_workers=True,
        ),
        Workload(
            name="submit-pipelined",
            summary="submissions, a command for each, 2,000 under way at once",
            measure=submissions(submitting.submit_pipelined, per_second=2_000),
            slow_workers=True,
        ),
        Workload(
            name="mixed",
            summary="chains one at a time beside steps of a second",
            measure=mixed,
        ),
        Workload(name="idle", summary="nothing to do", measure=idle),
        Workload(
            name="backlog",
            summary="100,000 steps that wait",
            measure=backlog,
            slow_workers=True,
        ),
    )
}
