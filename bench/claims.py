"""A hundred cores claim tasks from one database: how long a round takes, who gets none, who meets.

Each claimant is a connection with a core's name and lease. It claims at most `--at-most` tasks a
round, in a transaction of its own, every `--every` seconds, until none are left. Three ways are
tried one after the other, each on fresh tasks:

  skip_locked  UPDATE over rows that SELECT ... FOR UPDATE SKIP LOCKED has locked: what ships
  hybrid       the same, in one statement with a lock row made for each claim, as the seeds have it
  one_lock     the same, under one expiring lock by purpose: a claim at a time

`python -m bench.claims`
"""

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import click
from sqlalchemy import Connection, Engine, text

from tasker_zmq.clock import SystemClock
from tasker_zmq.domain.ids import CoreId
from tasker_zmq.store import connection as connections
from tasker_zmq.store import schema
from tasker_zmq.store import steps as step_store
from tasker_zmq.store import workers as worker_store
from tasker_zmq.store.embedded import halt_server, resume_server
from tasker_zmq.store.provision import database_server

LEASE_SECONDS: Final = 3_600.0
LOCK_SECONDS: Final = 30
CLOCK: Final = SystemClock()

HYBRID: Final = text(
    """
WITH lock AS (
    INSERT INTO tasker_distributed_processing_locks AS l
        (lock_name, owner_core_id, owner_epoch, acquired_at, expires_at)
    VALUES (:lock, :core_id, 1, :now, CAST(:now AS timestamptz) + :seconds * interval '1 second')
    ON CONFLICT (lock_name) DO UPDATE SET owner_core_id = excluded.owner_core_id,
        acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
        WHERE l.expires_at <= excluded.acquired_at OR l.owner_core_id = excluded.owner_core_id
    RETURNING lock_name
),
held AS MATERIALIZED (
    SELECT t.task_id FROM tasker_tasks t
    WHERE t.completed_at IS NULL AND t.state IN ('pending', 'in_progress')
      AND t.processing_core_id IS NULL AND EXISTS (SELECT FROM lock)
    ORDER BY (- t.priority), t.task_id LIMIT :at_most
    FOR NO KEY UPDATE OF t SKIP LOCKED
)
UPDATE tasker_tasks t SET processing_core_id = :core_id, claimed_at = :now
FROM held WHERE t.task_id = held.task_id RETURNING t.task_id
"""
)
GIVE_BACK: Final = text("DELETE FROM tasker_distributed_processing_locks WHERE lock_name = :lock")
FILL: Final = """
INSERT INTO tasker_task_namespaces (name, created_at) VALUES ('bench', now());
INSERT INTO tasker_named_tasks (task_namespace_id, name, version, template, template_digest,
    step_count, leaf_count, created_at)
SELECT task_namespace_id, 'one', '1', '{}', 'd', 1, 1, now() FROM tasker_task_namespaces;
INSERT INTO tasker_named_steps (name, created_at) VALUES ('step', now())
"""
TASKS: Final = """
INSERT INTO tasker_tasks (named_task_id, state, priority, step_count, unfinished_leaves, context,
    requested_at)
SELECT 1, 'pending', i % 3, 1, 1, '{}', now() FROM generate_series(1, :count) i;
INSERT INTO tasker_workflow_steps (task_id, named_step_id, name, state, is_leaf, retryable,
    retry_limit, unfinished_parents, created_at)
SELECT task_id, 1, 'step', 'pending', true, true, 3, 0, now() FROM tasker_tasks t
WHERE NOT EXISTS (SELECT FROM tasker_workflow_steps s WHERE s.task_id = t.task_id)
"""

Claim = Callable[[Connection, CoreId, int], list[int]]


def skip_locked(connection: Connection, core_id: CoreId, at_most: int) -> list[int]:
    return list(step_store.claim(connection, core_id=core_id, now=CLOCK.now(), at_most=at_most))


def _hybrid(connection: Connection, core_id: CoreId, at_most: int, *, lock: str) -> list[int]:
    values = {
        "lock": lock,
        "core_id": core_id,
        "at_most": at_most,
        "now": CLOCK.now(),
        "seconds": LOCK_SECONDS,
    }
    found = [int(each) for each in connection.execute(HYBRID, values).scalars()]
    connection.execute(GIVE_BACK, {"lock": lock})
    return found


def hybrid(connection: Connection, core_id: CoreId, at_most: int) -> list[int]:
    lock = f"claim-{core_id}-{time.perf_counter_ns()}"
    return _hybrid(connection, core_id, at_most, lock=lock)


def one_lock(connection: Connection, core_id: CoreId, at_most: int) -> list[int]:
    return _hybrid(connection, core_id, at_most, lock="claim")


WAYS: Final[dict[str, Claim]] = {each.__name__: each for each in (skip_locked, hybrid, one_lock)}


@dataclass
class Tally:
    """What all claimants of one way have seen; ids in the order in which they were claimed."""

    tasks: int
    claimed: list[int] = field(default_factory=list)
    owners: dict[int, CoreId] = field(default_factory=dict)
    rounds_ms: list[float] = field(default_factory=list)
    in_vain: int = 0
    blocked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def over(self) -> bool:
        return len(self.claimed) >= self.tasks

    def note(self, core_id: CoreId, found: list[int], milliseconds: float) -> None:
        with self.lock:
            self.rounds_ms.append(milliseconds)
            self.claimed += found
            self.owners.update(dict.fromkeys(found, core_id))
            if not found and not self.over:
                self.in_vain += 1


@contextmanager
def database(claimants: int) -> Iterator[Engine]:
    """A server that lets so many in at once, with a workflow and a living core for each."""
    with tempfile.TemporaryDirectory(prefix="tasker-bench-") as name:
        folder = Path(name) / "postgres"
        with database_server(None, data_dir=folder, keep=False) as server:
            schema.upgrade(server.url)
            limits = connections.ConnectionLimits()
            engine = connections.create(
                server.url, purpose="bench", limits=limits, pool_size=claimants + 1
            )
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as opened:
                opened.exec_driver_sql(f"ALTER SYSTEM SET max_connections = {claimants + 50}")
            engine.dispose()
            halt_server(folder, at_once=False)
            resume_server(folder)
            with engine.begin() as opened:
                for statement in FILL.split(";\n"):
                    opened.execute(text(statement))
                for number in range(claimants):
                    worker_store.start_core(
                        opened, _core(number), {}, now=CLOCK.now(), lease_seconds=LEASE_SECONDS
                    )
            yield engine
            engine.dispose()


def _core(number: int) -> CoreId:
    return CoreId(f"core-{number:03}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many claim how much how often."""

    claimants: int
    tasks: int
    at_most: int
    every_seconds: float


def measure(engine: Engine, claim: Claim, plan: Plan) -> Tally:
    """Fresh tasks, then rounds until all of them are claimed."""
    with engine.begin() as opened:
        opened.exec_driver_sql("DELETE FROM tasker_tasks")
        for statement in TASKS.split(";\n"):
            used = {"count": plan.tasks} if ":count" in statement else {}
            opened.execute(text(statement), used)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as opened:
        opened.exec_driver_sql("VACUUM ANALYZE tasker_tasks")
    tally, start = Tally(plan.tasks), threading.Barrier(plan.claimants)

    def take_part(number: int) -> None:
        most = plan.at_most
        dice = random.Random(number)  # noqa: S311 - seeded on purpose
        with engine.connect() as own:
            with suppress(Exception):  # plans are made, nothing is claimed
                claim(own, _core(number), 0)
            own.rollback()
            start.wait()
            time.sleep(dice.random() * plan.every_seconds)
            while not tally.over:
                _round(own, tally, core_id=_core(number), claim=partial(claim, at_most=most))
                time.sleep(plan.every_seconds * (0.5 + dice.random()))

    with ThreadPoolExecutor(plan.claimants) as pool:
        list(pool.map(take_part, range(plan.claimants)))
    return tally


def _round(
    own: Connection,
    tally: Tally,
    *,
    core_id: CoreId,
    claim: Callable[[Connection, CoreId], list[int]],
) -> None:
    began = time.perf_counter()
    try:
        found = claim(own, core_id)
        own.commit()
    except Exception as error:
        own.rollback()
        if not (connections.is_held_up(error) or connections.is_cancelled(error)):
            raise  # neither a lock that was waited for in vain nor a statement that took too long
        with tally.lock:
            tally.blocked += 1
        found = []
    tally.note(core_id, found, (time.perf_counter() - began) * 1_000)


def is_accurate(engine: Engine, tally: Tally) -> bool:
    """Nothing claimed twice, nothing forgotten, and the rows say the same owners."""
    with engine.connect() as opened:
        rows = opened.execute(text("SELECT task_id, processing_core_id FROM tasker_tasks"))
        stored = {row.task_id: row.processing_core_id for row in rows}
    once = len(tally.claimed) == len(set(tally.claimed)) == tally.tasks
    return once and stored == tally.owners


@click.command()
@click.option("--claimants", default=100, show_default=True)
@click.option("--tasks", default=10_000, show_default=True)
@click.option("--at-most", default=10, show_default=True, help="Tasks a round.")
@click.option("--every", default=1.0, show_default=True, help="Seconds from round to round.")
def bench(*, claimants: int, tasks: int, at_most: int, every: float) -> None:
    """Print how long a claim's round takes with many claimants, for each way to claim."""
    plan = Plan(claimants=claimants, tasks=tasks, at_most=at_most, every_seconds=every)
    click.echo(f"{claimants} claimants, {tasks} ready tasks, {at_most} a round, every {every:g} s")
    click.echo("way          rounds   p50 ms   p95 ms   max ms  contention  accurate")
    with database(claimants) as engine:
        for name, claim in WAYS.items():
            tally = measure(engine, claim, plan)
            spent = sorted(tally.rounds_ms)
            p95 = spent[int(len(spent) * 0.95)]
            contention = 100 * (tally.in_vain + tally.blocked) / len(spent)
            click.echo(
                f"{name:<12} {len(spent):>6} {statistics.median(spent):>8.1f} {p95:>8.1f} "
                f"{spent[-1]:>8.1f} {contention:>9.1f} %  {is_accurate(engine, tally)}"
            )


if __name__ == "__main__":
    bench()
