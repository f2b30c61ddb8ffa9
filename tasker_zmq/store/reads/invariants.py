"""The invariants of docs/PROTOCOL.md that SQL can check: each query finds what breaks one.

A query returns at most LIMIT rows of `subject` and `detail`; no rows, nothing is broken. Each sees
one moment, so that it may be asked while the daemon works.
"""

from dataclasses import dataclass
from string import Template
from typing import Any, Final

from sqlalchemy import Connection, text

from tasker_zmq.domain.states import BATCH, STEP, TASK, Machine

LIMIT: Final = 20
CREATION: Final = "create"  # the first transition: from nothing to the initial state


@dataclass(frozen=True)
class Invariant:
    """What always holds, and the query that finds where it does not."""

    name: str
    sentence: str
    sql: str


@dataclass(frozen=True)
class Violation:
    """One place in which an invariant does not hold."""

    invariant: str
    subject: str
    detail: str


def check_invariants(connection: Connection) -> list[Violation]:
    """Everything that is broken; empty when nothing is. It reads whole tables."""
    return [
        Violation(invariant.name, row.subject, row.detail)
        for invariant in INVARIANTS
        for row in connection.execute(text(f"{invariant.sql}\nLIMIT {LIMIT}"))
    ]


_HELD: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    CASE s.state WHEN 'in_progress' THEN 'it is in progress, but not in its current batch'
        ELSE 'it waits for a retry, and has no time for it' END AS detail
FROM tasker_workflow_steps s
WHERE (s.state = 'waiting_for_retry' AND s.next_attempt_at IS NULL)
   OR (s.state = 'in_progress' AND NOT EXISTS (
        SELECT 1 FROM tasker_step_execution_batch_steps bs
        WHERE bs.batch_id = s.current_batch_id AND bs.workflow_step_id = s.workflow_step_id))"""

_ONE_OUTCOME: Final = """
SELECT 'batch step ' || r.batch_step_id AS subject,
    count(*) || ' outcomes were applied: ledger rows '
        || string_agg(CAST(r.id AS text), ', ' ORDER BY r.id) AS detail
FROM tasker_step_execution_batch_received_results r
WHERE r.message_type = 'partial_result' AND r.verdict = 'applied'
    AND r.status IS DISTINCT FROM 'in_progress' AND r.batch_step_id IS NOT NULL
GROUP BY r.batch_step_id HAVING count(*) > 1"""

_FINISHED: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it is ' || s.state || ', and its finish time is '
        || coalesce(CAST(s.finished_at AS text), 'missing') AS detail
FROM tasker_workflow_steps s
WHERE (s.state IN ('complete', 'error') AND s.finished_at IS NULL)
   OR (s.state IN ('pending', 'in_progress', 'waiting_for_retry') AND s.finished_at IS NOT NULL)"""

_APPLIED_BELONGS: Final = """
SELECT 'ledger row ' || r.id AS subject,
    CASE WHEN bs.id IS NULL THEN 'it was applied, and names no step that its batch carried'
        ELSE 'it completed step ' || bs.workflow_step_id || ' in batch ' || r.batch_id
            || ', and the last batch of that step is '
            || coalesce(CAST(s.current_batch_id AS text), 'none') END AS detail
FROM tasker_step_execution_batch_received_results r
LEFT JOIN tasker_step_execution_batch_steps bs
    ON bs.id = r.batch_step_id AND bs.batch_id = r.batch_id
LEFT JOIN tasker_workflow_steps s ON s.workflow_step_id = bs.workflow_step_id
WHERE r.message_type = 'partial_result' AND r.verdict = 'applied'
    AND (bs.id IS NULL OR (r.status NOT IN ('failed', 'error', 'in_progress')
        AND s.current_batch_id IS DISTINCT FROM bs.batch_id))"""

_PARENTS_FIRST: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it is ' || s.state || ', and its parent ' || p.workflow_step_id || ' is ' || p.state AS detail
FROM tasker_workflow_steps s
JOIN tasker_workflow_step_edges e ON e.to_step_id = s.workflow_step_id
JOIN tasker_workflow_steps p ON p.workflow_step_id = e.from_step_id
WHERE s.state IN ('in_progress', 'complete') AND p.state NOT IN ('complete', 'resolved_manually')"""

# A person who retries a step gives it another life, so those steps are left out.
_ATTEMPTS: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    s.attempts || ' attempts with ' || s.losses || ' losses; its retry limit is ' || s.retry_limit
        || CASE WHEN s.retryable THEN '' ELSE ', and it is not retryable' END AS detail
FROM tasker_workflow_steps s
WHERE (s.attempts > s.losses + 1 + CASE WHEN s.retryable THEN s.retry_limit ELSE 0 END
        OR s.attempts < 0)
    AND NOT EXISTS (
        SELECT 1 FROM tasker_workflow_step_transitions t
        WHERE t.workflow_step_id = s.workflow_step_id AND t.event_name = 'retry'
            AND t.from_state IN ('error', 'in_doubt'))"""

_APPEND_ONLY: Final = """
SELECT 'the ledger' AS subject,
    'no trigger refuses changes of ' || c.relname || '; downgrade and upgrade the schema' AS detail
FROM pg_class c
WHERE c.oid = CAST('tasker_step_execution_batch_received_results' AS regclass) AND NOT EXISTS (
    SELECT 1 FROM pg_trigger t
    WHERE t.tgrelid = c.oid AND t.tgname = 'tasker_append_only' AND t.tgenabled <> 'D')"""

# The older one-shot messages speak of many steps in one row: such batches are left out.
_COUNTERS: Final = """
SELECT 'batch ' || b.batch_id AS subject,
    'stored are ' || b.partial_results_received || ' partial results and completion '
        || b.final_completion_received || ', with ' || b.completed_steps || ' completed and '
        || b.failed_steps || ' failed of ' || b.batch_size || '; the ledger has '
        || coalesce(r.partials, 0) || ' partial results and completion '
        || coalesce(r.completion, false) AS detail
FROM tasker_step_execution_batches b
LEFT JOIN (
    SELECT batch_id,
        count(DISTINCT batch_step_id) FILTER (WHERE message_type = 'partial_result'
            AND verdict = 'applied' AND status IS DISTINCT FROM 'in_progress') AS partials,
        bool_or(message_type = 'batch_completion' AND verdict = 'applied') AS completion,
        bool_or(message_type IN ('results', 'batch_error')) AS one_shot
    FROM tasker_step_execution_batch_received_results
    WHERE batch_id IS NOT NULL GROUP BY batch_id
) r USING (batch_id)
WHERE NOT coalesce(r.one_shot, false) AND (
    b.partial_results_received <> coalesce(r.partials, 0)
    OR b.final_completion_received <> coalesce(r.completion, false)
    OR b.completed_steps + b.failed_steps
        NOT BETWEEN b.partial_results_received AND b.batch_size)"""

_UNFINISHED_PARENTS: Final = """
SELECT 'step ' || s.workflow_step_id AS subject,
    'it counts ' || s.unfinished_parents || ' unfinished parents; there are '
        || count(p.workflow_step_id) AS detail
FROM tasker_workflow_steps s
LEFT JOIN tasker_workflow_step_edges e ON e.to_step_id = s.workflow_step_id
LEFT JOIN tasker_workflow_steps p ON p.workflow_step_id = e.from_step_id
    AND p.state NOT IN ('complete', 'resolved_manually')
GROUP BY s.workflow_step_id HAVING s.unfinished_parents <> count(p.workflow_step_id)"""

# A task that a person ended does not count what comes afterwards.
_TASK_COUNTS: Final = """
SELECT 'task ' || t.task_id AS subject,
    'it counts ' || t.step_count || ' steps, ' || t.unfinished_leaves || ' unfinished leaves and '
        || t.failed_steps || ' failed steps; there are ' || coalesce(s.steps, 0) || ', '
        || coalesce(s.leaves, 0) || ' and ' || coalesce(s.failures, 0) AS detail
FROM tasker_tasks t
LEFT JOIN (
    SELECT task_id, count(*) AS steps,
        count(*) FILTER (WHERE is_leaf AND state NOT IN ('complete', 'resolved_manually'))
            AS leaves,
        count(*) FILTER (WHERE state IN ('error', 'cancelled')) AS failures
    FROM tasker_workflow_steps GROUP BY task_id
) s USING (task_id)
WHERE t.state NOT IN ('cancelled', 'resolved_manually') AND (
    t.step_count <> coalesce(s.steps, 0) OR t.unfinished_leaves <> coalesce(s.leaves, 0)
    OR t.failed_steps <> coalesce(s.failures, 0))"""

_COMPLETE_TASKS: Final = """
SELECT 'task ' || t.task_id AS subject,
    'it is complete, and its step ' || s.workflow_step_id || ' is ' || s.state AS detail
FROM tasker_tasks t JOIN tasker_workflow_steps s USING (task_id)
WHERE t.state = 'complete' AND s.state NOT IN ('complete', 'resolved_manually')"""

_ARROWS: Final = Template("""
WITH arrow (from_state, event_name, to_state) AS (VALUES $arrows),
told AS (
    SELECT t.$key AS id, t.sort_key, t.from_state, t.event_name, t.to_state,
        lag(t.to_state) OVER (PARTITION BY t.$key ORDER BY t.sort_key) AS former_state
    FROM $transitions t
)
SELECT '$noun ' || id AS subject,
    'transition ' || sort_key || ', ' || event_name || ' from ' || coalesce(from_state, 'nothing')
        || ' to ' || to_state || ', comes after ' || coalesce(former_state, 'nothing') AS detail
FROM told
WHERE from_state IS DISTINCT FROM former_state
   OR NOT EXISTS (
        SELECT 1 FROM arrow a
        WHERE a.from_state = coalesce(told.from_state, '') AND a.event_name = told.event_name
            AND a.to_state = told.to_state)""")

_TOLD: Final = Template("""
SELECT '$noun ' || p.$key AS subject,
    'it is ' || p.state || ' after ' || p.transitions || ' transitions; recorded are '
        || coalesce(t.recorded, 0) || ', numbered ' || coalesce(t.lowest, 0) || ' to '
        || coalesce(t.highest, 0) || ', the last of them to ' || coalesce(t.state, 'nothing')
        AS detail
FROM $table p
LEFT JOIN (
    SELECT $key, count(*) AS recorded, min(sort_key) AS lowest, max(sort_key) AS highest,
        (array_agg(to_state ORDER BY sort_key DESC))[1] AS state
    FROM $transitions GROUP BY $key
) t USING ($key)
WHERE t.recorded IS NULL OR t.lowest <> 1 OR t.highest <> t.recorded
   OR t.recorded <> p.transitions OR t.state <> p.state""")

_MOST_RECENT: Final = """
SELECT 'batch ' || t.batch_id AS subject,
    count(*) FILTER (WHERE t.most_recent) || ' transitions are marked as the most recent, at '
        || coalesce(max(t.sort_key) FILTER (WHERE t.most_recent), 0) || '; the last is '
        || max(t.sort_key) AS detail
FROM tasker_step_execution_batch_transitions t
GROUP BY t.batch_id
HAVING count(*) FILTER (WHERE t.most_recent) <> 1
    OR max(t.sort_key) FILTER (WHERE t.most_recent) <> max(t.sort_key)"""


def _of_transitions(machine: Machine[Any, Any], **names: str) -> tuple[Invariant, Invariant]:
    first = ("", CREATION, str(machine.initial))
    others = ((str(a), str(event), str(b)) for (a, event), b in machine.arrows.items())
    rows = ", ".join(f"('{a}', '{event}', '{b}')" for a, event, b in (first, *others))
    noun = machine.noun
    return (
        Invariant(
            f"I12 {noun} arrows",
            f"A {noun} moves along the arrows only, each from where the last one led.",
            _ARROWS.substitute(names, noun=noun, arrows=rows),
        ),
        Invariant(
            f"I12 {noun} history",
            f"A {noun}'s transitions are numbered from 1 without gaps, counted in its row, "
            "and end in its state.",
            _TOLD.substitute(names, noun=noun),
        ),
    )


INVARIANTS: Final[tuple[Invariant, ...]] = (
    Invariant(
        "I1 held", "A step in progress is in its current batch; a waiting one is due.", _HELD
    ),
    Invariant("I3 one outcome", "At most one outcome is applied per step and batch.", _ONE_OUTCOME),
    Invariant("I3 finish time", "A step has a finish time exactly when it has ended.", _FINISHED),
    Invariant(
        "I4 current batch",
        "An applied result belonged to a batch that carried the step, a success to its last one.",
        _APPLIED_BELONGS,
    ),
    Invariant("I6 parents first", "A step is sent only after all its parents.", _PARENTS_FIRST),
    Invariant("I7 attempts", "A step is not sent more often than its retries allow.", _ATTEMPTS),
    Invariant("I10 append-only", "The ledger refuses UPDATE and DELETE.", _APPEND_ONLY),
    Invariant("I10 counters", "A batch's counters are what the ledger adds up to.", _COUNTERS),
    *_of_transitions(
        STEP,
        table="tasker_workflow_steps",
        transitions="tasker_workflow_step_transitions",
        key="workflow_step_id",
    ),
    *_of_transitions(
        TASK, table="tasker_tasks", transitions="tasker_task_transitions", key="task_id"
    ),
    *_of_transitions(
        BATCH,
        table="tasker_step_execution_batches",
        transitions="tasker_step_execution_batch_transitions",
        key="batch_id",
    ),
    Invariant("I12 most recent", "A batch's last transition is its most recent.", _MOST_RECENT),
    Invariant(
        "unfinished parents", "A step counts its unfinished parents rightly.", _UNFINISHED_PARENTS
    ),
    Invariant("task counts", "A task counts its steps, leaves and failures rightly.", _TASK_COUNTS),
    Invariant("complete tasks", "Every step of a complete task is complete.", _COMPLETE_TASKS),
)
