-- show_task_edges: which step of one task waits for which. Its steps first: sorted by id they could
-- be planned as a walk through all steps in that order.
WITH own AS MATERIALIZED (
    SELECT s.workflow_step_id, s.name FROM tasker_workflow_steps s
    WHERE s.task_id = CAST(:task_id AS bigint)
)
SELECT p.name AS parent, c.name AS child
FROM own c
JOIN tasker_workflow_step_edges e ON e.to_step_id = c.workflow_step_id
JOIN own p ON p.workflow_step_id = e.from_step_id
ORDER BY c.workflow_step_id, p.workflow_step_id;
