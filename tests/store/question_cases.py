"""Questions of analytics about an hour in which nothing happened, on tables full of other hours."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from tasker_zmq.store.reads.analytics import commands, look_widely, system, tasks, workers
from tasker_zmq.store.reads.analytics.window import Window
from tests.store.plan_cases import NOW

ROWS_MAX: Final = 500  # that a question is told to read of one table
WINDOW: Final = Window(
    since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=2), now=NOW, rows_max=ROWS_MAX
)
QUESTIONS: Final = {
    "task_performance": tasks.TASK_PERFORMANCE,
    "worker_efficiency": workers.WORKER_EFFICIENCY,
    "load_distribution": workers.LOAD_DISTRIBUTION,
    "compatibility": workers.COMPATIBILITY,
    "command_latency": commands.COMMAND_LATENCY,
    "audit_summary": commands.AUDIT_SUMMARY,
    "cores": system.CORES,
    **system.COUNTS,
    **system.SUMS,
}
# As autosummarize does by itself, which does not run in the middle of a test.
SUMMARISE: Final = text(
    "SELECT brin_summarize_new_values(CAST(inhrelid AS regclass)) FROM pg_inherits "
    "WHERE inhparent = 'ix_tasker_received_results_received_at'::regclass"
)


def explain_questions(session: Connection) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each question's plan, as it went; with the switches that a question has."""
    session.execute(SUMMARISE)
    session.commit()
    look_widely(session)
    for name, statement in QUESTIONS.items():
        used = {k: value for k, value in WINDOW.values().items() if f":{k}" in statement}
        explained = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        (plan,) = session.execute(explained, used).scalar_one()
        yield name, dict(plan["Plan"])
    session.rollback()
