-- load_sent_steps: what batches that got lost carried, as far as it is still in progress, in the
-- shape of load_viable_steps; attempts are those before the batch was sent.
SELECT bs.batch_id, s.workflow_step_id AS step_id, s.task_id, s.named_step_id, t.named_task_id,
    s.name, bs.attempt AS attempts, s.retry_limit, s.created_at, t.context::text AS context,
    coalesce(parents.results::text, '{}') AS previous_results
FROM unnest(CAST(:batch_ids AS bigint[])) AS b(batch_id)
JOIN tasker_step_execution_batch_steps bs USING (batch_id)
JOIN LATERAL ( -- with a limit it is no join that might be a walk through all steps
    SELECT * FROM tasker_workflow_steps
    WHERE workflow_step_id = bs.workflow_step_id AND state = 'in_progress'
      AND current_batch_id = bs.batch_id LIMIT 1
) s ON true
JOIN LATERAL ( -- what a person cancelled meanwhile must not start any more
    SELECT * FROM tasker_tasks WHERE task_id = s.task_id AND state <> 'cancelled' LIMIT 1
) t ON true
LEFT JOIN LATERAL (
    SELECT json_object_agg(p.name, p.results) AS results
    FROM tasker_workflow_step_edges e
    JOIN tasker_workflow_steps p ON p.workflow_step_id = e.from_step_id
    WHERE e.to_step_id = s.workflow_step_id
) parents ON true
ORDER BY bs.batch_id, bs.sequence_order;
