"""Finished tasks by the million: some that really ran, copied by PostgreSQL with ids of their own.

So each row is as the daemon writes it, in every table that a finished chain leaves rows in. It
takes the place of months of work; it is for databases that are dropped afterwards.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, text

from tasker_zmq.cli.benchmark.submitting import submit
from tasker_zmq.cli.benchmark.system import ALL_OVER, SETTLED, System
from tasker_zmq.cli.output import say
from tasker_zmq.errors import TaskerError

WORKFLOW: Final = "chain4"
PATTERN_TASKS: Final = 100
COPIES_AT_ONCE: Final = 100  # in one transaction: ten thousand tasks
LEDGER: Final = "tasker_step_execution_batch_received_results"
# Whose ids these are, by the table and the column that gives them out. Copies have theirs below 1,
# as what is older: the daemon has fresh ones in hand already, lower than any that we could reserve.
TASK = ("tasker_tasks", "task_id")
STEP = ("tasker_workflow_steps", "workflow_step_id")
BATCH = ("tasker_step_execution_batches", "batch_id")
PLACE = ("tasker_step_execution_batch_steps", "id")
ENTRY = (LEDGER, "id")
# For each table its columns with ids; the first one tells what belongs to the pattern.
TABLES: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "tasker_tasks": {"task_id": TASK},
    "tasker_task_transitions": {"task_id": TASK},
    "tasker_workflow_steps": {
        "workflow_step_id": STEP,
        "task_id": TASK,
        "current_batch_id": BATCH,
    },
    "tasker_workflow_step_edges": {"from_step_id": STEP, "to_step_id": STEP},
    "tasker_workflow_step_transitions": {"workflow_step_id": STEP},
    "tasker_step_execution_batches": {"batch_id": BATCH, "task_id": TASK},
    "tasker_step_execution_batch_steps": {
        "id": PLACE,
        "batch_id": BATCH,
        "workflow_step_id": STEP,
    },
    "tasker_step_execution_batch_transitions": {"batch_id": BATCH},
    LEDGER: {"id": ENTRY, "batch_id": BATCH, "batch_step_id": PLACE},
}
# What must differ and is no such id, in the order in which the originals would come.
FRESH: Final = {
    "identity": "p.identity || '.' || c",
    "batch_uuid": "CAST(left(CAST(p.batch_uuid AS text), 24) || lpad(to_hex(c), 12, '0') AS uuid)",
}
_COLUMNS: Final = text(
    "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:table AS regclass) "
    "AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
)
_SUPERUSER: Final = text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")


def fill(system: System, tasks: int) -> int:
    """Leave about so many finished chains in a fresh system; how many it came to.

    TaskerError if the system has had tasks before.
    """
    if system.scalar("SELECT EXISTS (SELECT FROM tasker_tasks)"):
        raise TaskerError("only a fresh database can be filled; this one has tasks")
    started = time.perf_counter()
    pattern = min(tasks, PATTERN_TASKS)
    submit(system, WORKFLOW, range(pattern))
    system.wait_until(ALL_OVER)
    system.wait_until(SETTLED)
    copies = max(0, round(tasks / pattern) - 1)
    with system.engine.connect() as connection:
        if copies:
            copy(connection, copies, between=system.interruption.check)
        _tidy(connection)
    seconds, size = time.perf_counter() - started, database_mib(system)
    say(f"filled with {pattern * (copies + 1):,} finished tasks: {size:,} MiB, {seconds:.0f} s")
    return pattern * (copies + 1)


def database_mib(system: System) -> int:
    """The database on disk, without its WAL."""
    return int(str(system.scalar("SELECT pg_database_size(current_database()) / 1048576")))


def copy(connection: Connection, copies: int, *, between: Callable[[], object]) -> None:
    """Copy all finished tasks so many times; `between` two transactions somebody may break off."""
    with connection.begin():
        spans = {owner: _span(connection, owner) for owner in (TASK, STEP, BATCH, PLACE, ENTRY)}
        statements = [_statement(connection, table, spans) for table in TABLES]
    for last in range(copies, 0, -COPIES_AT_ONCE):
        between()
        bounds = {"first": max(1, last - COPIES_AT_ONCE + 1), "last": last}
        with connection.begin():
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            for statement in statements:
                connection.execute(text(statement), bounds)


def _span(connection: Connection, owner: tuple[str, str]) -> int:
    table, column = owner
    question = f"SELECT max({column}) FROM {table}"  # noqa: S608 - names of ours
    return int(connection.execute(text(question)).scalar_one())


def _statement(connection: Connection, table: str, spans: Mapping[tuple[str, str], int]) -> str:
    """Copies from :first to :last of the table's part of the pattern, the oldest first."""
    columns = list(connection.execute(_COLUMNS, {"table": table}).scalars())
    owners = TABLES[table]
    values = [
        f"p.{each} - c * {spans[owners[each]]}" if each in owners else FRESH.get(each, f"p.{each}")
        for each in columns
    ]
    key = next(iter(owners))
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "  # noqa: S608 - names of ours
        f"FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) c, {table} p "
        f"WHERE p.{key} BETWEEN 1 AND {spans[owners[key]]} ORDER BY c DESC, p.{key}"
    )


def _tidy(connection: Connection) -> None:
    """As autovacuum and the checkpointer leave it: nobody pays later for what was copied."""
    outside = connection.execution_options(isolation_level="AUTOCOMMIT")
    for table in TABLES:
        outside.execute(text(f"VACUUM (ANALYZE) {table}"))
    if outside.execute(_SUPERUSER).scalar_one():
        outside.execute(text("CHECKPOINT"))
