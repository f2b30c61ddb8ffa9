-- load_viable_steps: locks those of the offered steps that may be sent now and reads what their
-- handlers need. Steps that another transaction holds are left for a later tick.
WITH held AS MATERIALIZED (
    SELECT s.workflow_step_id, s.task_id, s.named_step_id, s.name, s.attempts, s.retry_limit,
        s.created_at
    FROM tasker_workflow_steps s
    WHERE s.workflow_step_id = ANY(CAST(:step_ids AS bigint[])) AND s.state = 'pending'
      AND s.unfinished_parents = 0
      AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= CAST(:now AS timestamptz))
    ORDER BY s.workflow_step_id FOR NO KEY UPDATE SKIP LOCKED
)
SELECT h.workflow_step_id AS step_id, h.task_id, h.named_step_id, t.named_task_id, h.name,
    h.attempts, h.retry_limit, h.created_at, t.context::text AS context,
    coalesce(parents.results::text, '{}') AS previous_results
FROM held h
JOIN tasker_tasks t ON t.task_id = h.task_id
    AND t.state IN ('pending', 'in_progress') AND NOT t.paused AND t.processing_core_id = :core_id
LEFT JOIN LATERAL (
    SELECT json_object_agg(p.name, p.results) AS results
    FROM tasker_workflow_step_edges e
    JOIN tasker_workflow_steps p ON p.workflow_step_id = e.from_step_id
    WHERE e.to_step_id = h.workflow_step_id
) parents ON true;
