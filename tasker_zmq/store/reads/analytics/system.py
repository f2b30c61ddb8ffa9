"""The whole system in counts: what is open now, what ended and what was received."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, text

from tasker_zmq.store.reads.analytics.window import Window

# Each counts at most `rows_max` rows: those beyond are no news.
COUNTS: Final[Mapping[str, str]] = {
    "tasks_open": """
        SELECT state AS what, count(*) AS rows FROM (
            SELECT state FROM tasker_tasks WHERE completed_at IS NULL LIMIT :rows_max) t
        GROUP BY state""",
    "tasks_ended": """
        SELECT state AS what, count(*) AS rows FROM (
            SELECT state FROM tasker_tasks WHERE completed_at >= CAST(:since AS timestamptz)
                AND completed_at < CAST(:until AS timestamptz)
            ORDER BY completed_at DESC LIMIT :rows_max) t
        GROUP BY state""",
    "batches_open": """
        SELECT state AS what, count(*) AS rows FROM (
            SELECT state FROM tasker_step_execution_batches
            WHERE state IN ('created', 'published', 'in_progress') LIMIT :rows_max) b
        GROUP BY state""",
    "batches_made": """
        SELECT state AS what, count(*) AS rows FROM (
            SELECT state FROM tasker_step_execution_batches
            WHERE batch_uuid >= CAST(:first_uuid AS uuid)
              AND batch_uuid < CAST(:last_uuid AS uuid)
            ORDER BY batch_uuid DESC LIMIT :rows_max) b
        GROUP BY state""",
    "sessions": """
        SELECT r.status AS what, count(*) AS rows FROM tasker_worker_registrations r
        JOIN tasker_cores c ON c.core_id = r.core_id
            AND c.lease_expires_at > CAST(:now AS timestamptz)
        WHERE r.unregistered_at IS NULL GROUP BY r.status""",
    "verdicts": """
        SELECT verdict AS what, count(*) AS rows FROM (
            SELECT verdict FROM tasker_step_execution_batch_received_results
            WHERE received_at >= CAST(:since AS timestamptz)
              AND received_at < CAST(:until AS timestamptz) LIMIT :rows_max) m
        GROUP BY verdict""",
}
SUMS: Final[Mapping[str, str]] = {
    "steps_waiting_for_retry": """
        SELECT count(*) FROM (SELECT 1 FROM tasker_workflow_steps
            WHERE next_attempt_at IS NOT NULL AND state = 'waiting_for_retry'
            LIMIT :rows_max) s""",
    "dead_letters_open": """
        SELECT count(*) FROM (SELECT 1 FROM tasker_dead_letters WHERE status = 'open'
            LIMIT :rows_max) d""",
    "discrepancies": """
        SELECT count(*) FROM (
            SELECT batch_id FROM tasker_step_execution_batches
            WHERE batch_uuid >= CAST(:first_uuid AS uuid)
              AND batch_uuid < CAST(:last_uuid AS uuid)
              AND reconciliation_status = 'discrepancy'
            ORDER BY batch_uuid DESC LIMIT :rows_max) b
        JOIN tasker_step_execution_batch_discrepancies d USING (batch_id)""",
}
CORES: Final = """
SELECT c.core_id, c.lease_expires_at > CAST(:now AS timestamptz) AS alive, c.draining,
    (SELECT count(*) FROM (SELECT 1 FROM tasker_tasks t
        WHERE t.completed_at IS NULL AND t.processing_core_id = c.core_id
        LIMIT :rows_max) owned) AS tasks_open
FROM tasker_cores c ORDER BY c.core_id LIMIT :limit
"""


def system_health(connection: Connection, window: Window) -> tuple[dict[str, Any], bool]:
    """Counts by name, as the answer's fields, and whether any was cut off."""
    values = window.values()

    def run(statement: str) -> Any:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        return connection.execute(text(statement), used)

    counts: dict[str, Any] = {
        name: {row.what: row.rows for row in run(statement)} for name, statement in COUNTS.items()
    }
    sums = {name: run(statement).scalar_one() for name, statement in SUMS.items()}
    cut = any(sum(each.values()) >= window.rows_max for each in counts.values())
    cores = [dict(row) for row in run(CORES).mappings()]
    return {**counts, **sums, "cores": cores}, cut or any(
        each >= window.rows_max for each in sums.values()
    )
