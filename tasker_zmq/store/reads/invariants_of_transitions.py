"""What always holds of the history of steps, tasks and batches: one rule for all three."""

from string import Template
from typing import Any, Final

from tasker_zmq.domain.states import BATCH, STEP, TASK, Machine
from tasker_zmq.store.reads.invariant import Invariant

CREATION: Final = "create"  # the first transition: from nothing to the initial state

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


TRANSITION_INVARIANTS: Final = (
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
)
