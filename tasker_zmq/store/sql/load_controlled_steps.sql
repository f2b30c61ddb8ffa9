-- load_controlled_steps: steps that a person names, with what decides about them; steps, then their
-- tasks, locked in key order. `elsewhere` is another living core that has steps of the task
-- running, `repeated` says that this very command moved the step before.
WITH held AS MATERIALIZED (
    SELECT s.workflow_step_id, s.task_id, s.name, s.state, s.unfinished_parents
    FROM tasker_workflow_steps s
    WHERE s.workflow_step_id = ANY(CAST(:step_ids AS bigint[]))
    ORDER BY s.workflow_step_id FOR NO KEY UPDATE
),
owner AS MATERIALIZED (
    SELECT t.task_id, t.state, t.processing_core_id AS core_id FROM tasker_tasks t
    WHERE t.task_id = ANY(ARRAY(SELECT task_id FROM held))
    ORDER BY t.task_id FOR NO KEY UPDATE
)
SELECT h.workflow_step_id AS step_id, h.task_id, h.name, h.state, h.unfinished_parents,
    o.state AS task_state,
    CASE WHEN o.core_id <> :core_id AND EXISTS (
        SELECT 1 FROM tasker_cores c
        WHERE c.core_id = o.core_id AND c.lease_expires_at > CAST(:now AS timestamptz)
    ) AND (
        SELECT count(*) > 0 FROM tasker_workflow_steps r
        WHERE r.task_id = h.task_id AND r.state = 'in_progress'
    ) THEN o.core_id END AS elsewhere,
    (
        SELECT count(*) > 0 FROM tasker_workflow_step_transitions m
        WHERE m.workflow_step_id = h.workflow_step_id
          AND m.metadata ->> 'command_id' = CAST(:command_id AS text)
    ) AS repeated
FROM held h JOIN owner o USING (task_id)
ORDER BY h.workflow_step_id;
