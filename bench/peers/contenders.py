"""Who is measured: ours by the workloads of `make bench`, each peer by a program of its own."""

import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import Engine, make_url, text

from bench.peers.environments import HERE
from bench.peers.report import DBOS, LATENCY, OURS, PGQUEUER, THROUGHPUT, Measured, rate
from tasker_zmq.cli.benchmark import submitting
from tasker_zmq.cli.benchmark.system import LIMITS, System, WorkerSpec, running
from tasker_zmq.cli.benchmark.workloads import (
    LOAD,
    TASKS_MIN,
    WORKLOADS,
    Scale,
    latencies,
    newest,
    percentiles,
)
from tasker_zmq.cli.demonstration.interruption import Interruption
from tasker_zmq.cli.demonstration.premises import own_database, without_settings
from tasker_zmq.cli.demonstration.programs import Program, end, last_words
from tasker_zmq.client import TaskerClient
from tasker_zmq.errors import TaskerError
from tasker_zmq.settings.environment import process_variables
from tasker_zmq.store import connection as connections

WORKFLOW: Final = "chain4"
WARM_UP_CHAINS: Final = 20
ANSWER_SECONDS_MAX: Final = 600.0
PROCESSES: Final = 2
THEIR_SETTINGS: Final = ("PG", "DBOS", "PYTHON")  # of whoever starts us, not for a comparison
# Not the parents of partitions: their rows are those of the partitions.
TABLES: Final = (
    "SELECT format('%I.%I', schemaname, t.relname) FROM pg_stat_user_tables t "
    "JOIN pg_class c ON c.oid = t.relid WHERE c.relkind = 'r' ORDER BY t.relname"
)
STEPS_STORED: Final = "SELECT count(*) FROM tasker_workflow_steps"
FEW_ROWS: Final = 0.01  # for each step: settings, migrations, registrations


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Where they meet: a server, a folder for what they say, and how long each is measured."""

    server: str
    folder: Path
    seconds: float
    concurrency: int
    pythons: Mapping[str, Path]
    interruption: Interruption


@dataclass(frozen=True)
class Conversation:
    """A peer's program: it says lines of JSON in its log, and is told to go on by a line."""

    program: Program
    heard: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, number: int, interruption: Interruption) -> dict[str, Any]:
        """What it said as its `number`th line of JSON, once it has; TaskerError if it does not."""

        def is_there() -> bool:
            ended = self.program.running.poll() is not None
            lines = self.program.log.read_bytes().split(b"\n")[:-1]
            told = [line for line in lines if line.startswith(b"{")]
            if len(told) <= number and ended:
                said = "\n".join(last_words(self.program))
                raise TaskerError(f"{self.program.name} ended without an answer; it said:\n{said}")
            if len(told) > number:
                self.heard[:] = [orjson.loads(line) for line in told]
            return len(told) > number

        if not interruption.wait_until(is_there, seconds_max=ANSWER_SECONDS_MAX):
            raise TaskerError(f"{self.program.name} said nothing for {ANSWER_SECONDS_MAX:g} s")
        return self.heard[number]

    def go(self) -> None:
        stdin = self.program.running.stdin
        assert stdin is not None  # noqa: S101 - it was started with one
        stdin.write(b"go\n")
        stdin.flush()


def measure(contender: str, workload: str, ring: Ring) -> Measured:
    """One contender at one workload, on a fresh database that is gone afterwards."""
    by_name = {OURS: _ours, DBOS: _dbos, PGQUEUER: _pgqueuer}
    return by_name[contender](workload, ring)


def rows_per_step(engine: Engine, steps: int) -> dict[str, float]:
    """What lies in each table by the number of steps; tables with hardly a row are left out."""
    with engine.connect() as connection:
        names = connection.execute(text(TABLES)).scalars().all()
        counts = {
            name: int(connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one())  # noqa: S608 - its own tables
            for name in names
        }
    found = {name: round(count / steps, 3) for name, count in counts.items()}
    return {name: value for name, value in found.items() if value >= FEW_ROWS}


def _ours(workload: str, ring: Ring) -> Measured:
    spec = WorkerSpec(target=LOAD, concurrency=ring.concurrency)
    scale = Scale(seconds=ring.seconds, workers=PROCESSES, concurrency=ring.concurrency)
    with running(
        [spec] * PROCESSES, interruption=ring.interruption, database_url=ring.server
    ) as system:
        if workload == LATENCY:
            return _our_latency(system, ring.seconds)
        figures = WORKLOADS[WORKFLOW].measure(system, scale)
        return Measured(
            contender=OURS,
            workload=workload,
            figure=figures.steps_per_second or 0.0,
            rows_per_step=rows_per_step(system.engine, int(str(system.scalar(STEPS_STORED)))),
        )


def _our_latency(system: System, seconds: float) -> Measured:
    """As a caller sees it: from the request to the answer that the task has ended."""
    context = {"order": {"id": 1, "note": submitting.NOTE}}
    taken: list[float] = []
    with TaskerClient(system.commands) as client:

        def run_one() -> None:
            system.interruption.check()
            started = time.perf_counter()
            client.submit(f"{submitting.NAMESPACE}/{WORKFLOW}", context).wait()
            taken.append((time.perf_counter() - started) * 1_000)

        for _ in range(WARM_UP_CHAINS):
            run_one()
        taken.clear()
        before, until = newest(system), time.perf_counter() + seconds
        while time.perf_counter() < until or len(taken) < TASKS_MIN:
            run_one()
    in_rows = percentiles(latencies(system, WORKFLOW, after=before))
    return Measured(
        contender=OURS,
        workload=LATENCY,
        figure=statistics.median(taken),
        more={"p50_ms_between_the_daemons_own_ticks": in_rows["p50"]},
    )


def _dbos(workload: str, ring: Ring) -> Measured:
    """Processes that each run workflows themselves: nothing is queued, which is its fastest way."""
    with _peer(DBOS, ring) as (engine, url, talks):
        for number in range(PROCESSES if workload == THROUGHPUT else 1):
            told = (url, workload, str(ring.seconds), f"process-{number}")
            talks.append(_start(DBOS, told, ring))
            # One after the other: the first one makes the tables.
            talks[-1].answer(0, ring.interruption)
        return _measured(DBOS, workload, talks, engine=engine, ring=ring)


def _pgqueuer(workload: str, ring: Ring) -> Measured:
    """Workers in processes of their own; a chain alone runs in the process that asks for it."""
    with _peer(PGQUEUER, ring) as (engine, url, talks):
        talks.append(_start(PGQUEUER, (url, "install"), ring))
        talks[-1].answer(0, ring.interruption)
        for _ in range(PROCESSES if workload == THROUGHPUT else 0):
            talks.append(_start(PGQUEUER, (url, "serve"), ring))
            talks[-1].answer(0, ring.interruption)
        asking = _start(PGQUEUER, (url, workload, str(ring.seconds)), ring)
        talks.append(asking)
        asking.answer(0, ring.interruption)
        return _measured(PGQUEUER, workload, [asking], engine=engine, ring=ring)


def _measured(
    contender: str, workload: str, talks: Sequence[Conversation], *, engine: Engine, ring: Ring
) -> Measured:
    for each in talks:
        each.go()
    told = [each.answer(1, ring.interruption) for each in talks]
    alone = [each for one in told for each in one["latencies_ms"]]
    return Measured(
        contender=contender,
        workload=workload,
        figure=rate(told) if workload == THROUGHPUT else statistics.median(alone),
        rows_per_step=rows_per_step(engine, sum(each["steps_stored"] for each in told)),
    )


@contextmanager
def _peer(contender: str, ring: Ring) -> Iterator[tuple[Engine, str, list[Conversation]]]:
    """A fresh database, its plain URL, and the programs to be ended with it."""
    name = f"tasker_bench_{contender}_{os.getpid()}"
    with own_database(ring.server, place=ring.folder, name=name, keep=False) as database:
        engine = connections.create(database.url, purpose="bench", limits=LIMITS)
        talks: list[Conversation] = []
        plain = make_url(database.url).set(drivername="postgresql")
        try:
            yield engine, plain.render_as_string(hide_password=False), talks
        finally:
            end([each.program for each in talks])
            engine.dispose()


def _start(contender: str, arguments: Sequence[str], ring: Ring) -> Conversation:
    script = HERE / f"{contender}_chain.py"
    variables = {
        name: value
        for name, value in without_settings(process_variables()).items()
        if not name.startswith(THEIR_SETTINGS)
    }
    log = ring.folder / f"{contender}-{len(list(ring.folder.glob('*.log')))}.log"
    with log.open("wb") as said:
        started = subprocess.Popen(
            [str(ring.pythons[contender]), str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd=ring.folder,
            env=variables,
            start_new_session=True,  # Ctrl-C is for us: we end the others in good order
        )
    return Conversation(Program(contender, started, log))
