"""What always holds of tasks: that open ones go on, and that those at their end have one."""

from typing import Final

from tasker_zmq.store.reads.invariant import Invariant

_GOING_ON: Final = """
SELECT 'task ' || t.task_id AS subject,
    'it is ' || t.state || ', and none of its steps runs, is ready, or waits for a time or a person'
        AS detail
FROM tasker_tasks t
WHERE t.state IN ('pending', 'in_progress') AND NOT EXISTS (
    SELECT 1 FROM tasker_workflow_steps s
    WHERE s.task_id = t.task_id AND (s.state IN ('in_progress', 'waiting_for_retry', 'in_doubt')
        OR (s.state = 'pending' AND s.unfinished_parents = 0)))"""

_END_TIME: Final = """
SELECT 'task ' || t.task_id AS subject,
    'it is ' || t.state || ', and its end is '
        || coalesce(CAST(t.completed_at AS text), 'missing') AS detail
FROM tasker_tasks t
WHERE (t.completed_at IS NULL) <> (t.state IN ('pending', 'in_progress'))"""

_OWNERS: Final = """
SELECT 'task ' || t.task_id AS subject,
    'it is open, and nobody knows its core ' || t.processing_core_id AS detail
FROM tasker_tasks t LEFT JOIN tasker_cores c ON c.core_id = t.processing_core_id
WHERE t.state IN ('pending', 'in_progress') AND t.processing_core_id IS NOT NULL
    AND c.core_id IS NULL
UNION ALL
SELECT 'batch ' || b.batch_id, 'it is open, and nobody knows its core ' || b.core_id
FROM tasker_step_execution_batches b LEFT JOIN tasker_cores c USING (core_id)
WHERE b.state IN ('created', 'published', 'in_progress') AND c.core_id IS NULL"""

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

_BEGUN: Final = """
SELECT 'task ' || t.task_id AS subject,
    'it is pending, and its step ' || s.workflow_step_id || ' is ' || s.state AS detail
FROM tasker_tasks t JOIN tasker_workflow_steps s USING (task_id)
WHERE t.state = 'pending' AND s.state NOT IN ('pending', 'cancelled', 'resolved_manually')"""

_COMPLETE_TASKS: Final = """
SELECT 'task ' || t.task_id AS subject,
    'it is complete, and its step ' || s.workflow_step_id || ' is ' || s.state AS detail
FROM tasker_tasks t JOIN tasker_workflow_steps s USING (task_id)
WHERE t.state = 'complete' AND s.state NOT IN ('complete', 'resolved_manually')"""

_FAILED_TASKS: Final = """
SELECT 'task ' || t.task_id AS subject,
    'it ended in error, and its step ' || s.workflow_step_id || ' is ' || s.state AS detail
FROM tasker_tasks t JOIN tasker_workflow_steps s USING (task_id)
WHERE t.state = 'error' AND (s.state IN ('in_progress', 'waiting_for_retry', 'in_doubt')
    OR (s.state = 'pending' AND s.unfinished_parents = 0))"""

TASK_INVARIANTS: Final = (
    Invariant("I1 going on", "An open task has a step that can go on or is decided.", _GOING_ON),
    Invariant("I3 end time", "A task has an end time exactly when it has ended.", _END_TIME),
    Invariant("I13 owners", "Open tasks and batches belong to cores that are known.", _OWNERS),
    Invariant("task counts", "A task counts its steps, leaves and failures rightly.", _TASK_COUNTS),
    Invariant("begun tasks", "No step of a pending task has begun.", _BEGUN),
    Invariant("complete tasks", "Every step of a complete task is complete.", _COMPLETE_TASKS),
    Invariant(
        "failed tasks", "No step of a task that ended in error can still go on.", _FAILED_TASKS
    ),
)
