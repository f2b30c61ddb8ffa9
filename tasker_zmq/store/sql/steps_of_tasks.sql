-- steps_of_tasks: one page of these tasks' steps in certain states, with the batch that has each.
WITH theirs AS MATERIALIZED ( -- before the order, for which all steps might be walked through
    SELECT s.workflow_step_id, s.current_batch_id FROM tasker_workflow_steps s
    WHERE s.task_id = ANY(CAST(:task_ids AS bigint[])) AND s.state = ANY(CAST(:states AS text[]))
      AND s.workflow_step_id > :after_step_id
),
page AS MATERIALIZED (
    SELECT * FROM theirs ORDER BY workflow_step_id LIMIT :at_most
)
SELECT p.workflow_step_id AS step_id, b.batch_uuid::text AS batch_uuid, b.session_id
FROM page p
LEFT JOIN tasker_step_execution_batches b ON b.batch_id = p.current_batch_id
ORDER BY p.workflow_step_id;
