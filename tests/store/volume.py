"""Tens of thousands of rows as a busy month leaves them: mostly complete, some under way."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from tasker_zmq.store import schema

TASKS = 20_000
SMALL = 300  # what a table holds in its first minute
COMPLETE_UP_TO = 17_000  # tasks 1 to here are complete
RUNNING_UP_TO = 19_000  # from there to here the second step is with a worker
WAITING_FROM = 18_801  # or, in the last of them, waits for its retry
ORPHANED_FROM = 19_991  # the last ones belong to a core that is gone; those before are untouched
STEPS = 4  # a chain
BATCH_SIZE = 10
CORE, DEAD_CORE = "core-1", "core-2"

_DEFINITIONS = """
INSERT INTO tasker_task_namespaces (name, created_at) VALUES ('tests', :now);
INSERT INTO tasker_named_tasks (task_namespace_id, name, version, template, template_digest,
    step_count, leaf_count, created_at)
SELECT task_namespace_id, 'chain', '1', '{}', 'd', 4, 1, :now FROM tasker_task_namespaces;
INSERT INTO tasker_named_steps (name, created_at)
SELECT 'step' || k, :now FROM generate_series(1, 4) k;
INSERT INTO tasker_named_tasks_named_steps (named_task_id, named_step_id, position, handler_class,
    depends_on, parent_positions, is_leaf, retryable, retry_limit, backoff, backoff_base_ms,
    backoff_ceiling_ms, timeout_seconds)
SELECT 1, k, k, 'tests.work', CASE WHEN k = 1 THEN '{}' ELSE ARRAY['step' || k - 1] END,
    CASE WHEN k = 1 THEN '{}'::integer[] ELSE ARRAY[k - 1] END, k = 4,
    true, 3, 'exponential', 1000, 30000, 30 FROM generate_series(1, 4) k;
INSERT INTO tasker_cores (core_id, epoch, endpoints, lease_expires_at, started_at) VALUES
    ('core-1', 1, '{}', CAST(:now AS timestamptz) + interval '10 seconds', :now),
    ('core-2', 1, '{}', CAST(:now AS timestamptz) - interval '10 seconds', :now);
INSERT INTO tasker_workers (worker_name, created_at, updated_at)
SELECT 'worker' || w, :now, :now FROM generate_series(1, 20) w;
INSERT INTO tasker_worker_registrations (worker_id, session_id, core_id, status, connection_type,
    protocol_version, credit, last_heartbeat_at, registered_at)
SELECT w, 's' || w, 'core-1', 'healthy', 'zeromq', '2.0', 10, :now, :now
FROM generate_series(1, 20) w;
INSERT INTO tasker_worker_transport_availability (worker_id, core_id, transport_type, is_reachable,
    last_verified_at)
SELECT w, c, 'zeromq', w % 2 = 0, :now
FROM generate_series(1, 20) w, unnest(ARRAY['core-1', 'core-2']) c;
INSERT INTO tasker_worker_named_tasks (worker_id, named_task_id, created_at, updated_at)
SELECT w, 1, :now, :now FROM generate_series(1, 20) w;
"""

_WORK = """
INSERT INTO tasker_tasks (named_task_id, state, step_count, unfinished_leaves, transitions,
    context, identity, processing_core_id, requested_at, completed_at)
SELECT 1, CASE WHEN i <= :complete THEN 'complete' WHEN i <= :running THEN 'in_progress'
    ELSE 'pending' END, 4, (i > :complete)::integer, 1, '{}', 'identity' || i,
    CASE WHEN i >= :orphaned THEN 'core-2' ELSE 'core-1' END, :now,
    CASE WHEN i <= :complete THEN CAST(:now AS timestamptz) END
FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) i;
INSERT INTO tasker_workflow_steps (task_id, named_step_id, name, state, is_leaf, retryable,
    retry_limit, attempts, unfinished_parents, transitions, current_batch_id, next_attempt_at,
    created_at, results)
SELECT i, k, 'step' || k,
    CASE WHEN i <= :complete OR (i <= :running AND k = 1) THEN 'complete'
        WHEN i <= :running AND k = 2
            THEN CASE WHEN i >= :waiting THEN 'waiting_for_retry' ELSE 'in_progress' END
        ELSE 'pending' END,
    k = 4, true, 3, 1, CASE WHEN i <= :complete THEN 0 WHEN i <= :running THEN (k > 2)::integer
        ELSE (k > 1)::integer END, 2, (i - 1) / 10 * 4 + k,
    CASE WHEN i BETWEEN :waiting AND :running AND k = 2
        THEN CAST(:now AS timestamptz) + (i - 18900) * interval '1 second' END,
    :now, CAST('{"ok": true}' AS json)
FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) i, generate_series(1, 4) k
ORDER BY i, k;
INSERT INTO tasker_workflow_step_edges (from_step_id, to_step_id)
SELECT (i - 1) * 4 + k, (i - 1) * 4 + k + 1
FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) i, generate_series(1, 3) k;
INSERT INTO tasker_workflow_step_transitions (workflow_step_id, sort_key, to_state, event_name,
    created_at)
SELECT s, n, 'pending', 'create', :now
FROM generate_series(CAST(:first AS integer) * 4 - 3, CAST(:last AS integer) * 4) s,
    generate_series(1, 2) n;
INSERT INTO tasker_task_transitions (task_id, sort_key, to_state, event_name, created_at)
SELECT i, 1, 'pending', 'create', :now
FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) i;
"""

_BATCHES = """
INSERT INTO tasker_step_execution_batches (batch_uuid, registration_id, session_id, core_id, state,
    initiated_by, batch_size, timeout_seconds, reconciliation_status, transitions, created_at,
    updated_at)
SELECT CAST(lpad(to_hex(b), 32, '0') AS uuid), b % 20 + 1, 's' || b % 20 + 1,
    CASE WHEN b % 400 = 2 THEN 'core-2' ELSE 'core-1' END,
    CASE WHEN b <= 6800 OR b % 4 = 1 THEN 'completed' ELSE 'in_progress' END, 'dispatch', 10, 60,
    CASE WHEN b <= 6800 OR b % 4 = 1 THEN 'consistent' ELSE 'pending' END, 2, :now, :now
FROM generate_series(1, CAST(:running AS integer) / 10 * 4) b
WHERE b <= 6800 OR b % 4 IN (1, 2) ORDER BY b;
INSERT INTO tasker_step_execution_batch_steps (batch_id, workflow_step_id, sequence_order, attempt,
    expected_handler_class, created_at)
SELECT b.batch_id, s.workflow_step_id, 1, 0, 'tests.work', :now
FROM tasker_step_execution_batches b
JOIN tasker_workflow_steps s
    ON CAST(lpad(to_hex(s.current_batch_id), 32, '0') AS uuid) = b.batch_uuid;
UPDATE tasker_workflow_steps s SET current_batch_id = bs.batch_id
FROM tasker_step_execution_batch_steps bs
WHERE bs.workflow_step_id = s.workflow_step_id AND s.current_batch_id <> bs.batch_id;
INSERT INTO tasker_step_execution_batch_transitions (batch_id, sort_key, most_recent, to_state,
    event_name, created_at)
SELECT batch_id, n, n = 2, 'created', 'create', :now
FROM tasker_step_execution_batches, generate_series(1, 2) n;
INSERT INTO tasker_step_execution_batch_received_results (received_at, batch_id, batch_step_id,
    message_type, core_id, status, verdict, processed_at, raw_message_json)
SELECT :now, batch_id, id, 'partial_result', 'core-1', 'completed', 'applied', :now,
    CAST('{"status": "completed"}' AS json)
FROM tasker_step_execution_batch_steps;
INSERT INTO tasker_step_execution_batch_received_results (received_at, batch_id, message_type,
    core_id, verdict, processed_at, raw_message_json)
SELECT :now, batch_id, 'batch_completion', 'core-1', 'applied', :now, '{}'
FROM tasker_step_execution_batches;
INSERT INTO tasker_submissions (task_id, named_task_id, context, initiator, due_at, refused_at)
SELECT 1000000 + n, 1, '{}', 'somebody',
    CASE n % 3 WHEN 0 THEN '-infinity' ELSE :now + n * interval '1 minute' END,
    CASE n % 3 WHEN 2 THEN :now END
FROM generate_series(1, 9000) n;
WITH scheduled AS (
    INSERT INTO tasker_tasks (named_task_id, state, step_count, unfinished_leaves, transitions,
        context, scheduled_for, requested_at)
    SELECT 1, 'pending', 1, 1, 1, '{}', :now + (n - 100) * interval '1 minute', :now
    FROM generate_series(1, 3000) n
    RETURNING task_id
)
INSERT INTO tasker_workflow_steps (task_id, named_step_id, name, state, is_leaf, retryable,
    retry_limit, attempts, unfinished_parents, transitions, created_at)
SELECT task_id, 1, 'step1', 'pending', true, true, 3, 0, 0, 1, :now FROM scheduled;
"""


def make_room(connection: Connection, now: datetime) -> None:
    """Partitions for `now`; and the server analyses no table by itself, in the middle of a test."""
    schema.ensure_partitions(connection, now)
    tables = connection.execute(
        text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'tasker%'")
    )
    for (name,) in tables.fetchall():
        connection.execute(text(f"ALTER TABLE {name} SET (autovacuum_enabled = false)"))


def define(connection: Connection, now: datetime) -> None:
    """A workflow, cores, workers."""
    _run(connection, _DEFINITIONS, {"now": now})


def fill(connection: Connection, now: datetime, *, first: int, last: int) -> None:
    """Write tasks with their steps. Nothing is analysed: no plan made before is made again."""
    bounds = {
        "complete": COMPLETE_UP_TO,
        "running": RUNNING_UP_TO,
        "waiting": WAITING_FROM,
        "orphaned": ORPHANED_FROM,
    }
    _run(connection, _WORK, {"now": now, "first": first, "last": last, **bounds})


def fill_batches(connection: Connection, now: datetime) -> None:
    """Write the batches of all tasks, and the ledger."""
    _run(connection, _BATCHES, {"now": now, "running": RUNNING_UP_TO})


def _run(connection: Connection, script: str, values: Mapping[str, Any]) -> None:
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    for statement in script.split(";\n"):
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        if statement.strip():
            connection.execute(text(statement), used)
    connection.commit()
