-- sweep_viable_steps: viable steps of this core's open tasks behind a cursor (priority, task id),
-- for the start of a daemon and for backlogs that memory did not hold. One page at a time: so many
-- tasks, and so many steps, whichever comes first; the order of the index lets it stop early.
-- Crowded are those of whose kind memory has many: only a more urgent one would find a place.
SELECT p.task_id, p.priority, p.named_task_id, s.workflow_step_id AS step_id, s.named_step_id,
    s.attempts, s.retry_limit, s.created_at AS step_created_at
FROM (
    SELECT t.task_id, t.priority, t.named_task_id, t.paused
    FROM tasker_tasks t
    WHERE t.completed_at IS NULL AND t.state IN ('pending', 'in_progress')
      AND t.processing_core_id = :core_id
      AND ((- t.priority), t.task_id)
          > (CAST(:after_priority AS integer), CAST(:after_task_id AS bigint))
    ORDER BY (- t.priority), t.task_id LIMIT :at_most
) p
LEFT JOIN LATERAL (
    SELECT w.workflow_step_id, w.named_step_id, w.attempts, w.retry_limit, w.created_at
    FROM tasker_workflow_steps w
    WHERE w.task_id = p.task_id AND w.state = 'pending' AND w.unfinished_parents = 0
      AND NOT p.paused
      AND NOT (p.priority <= CAST(:crowded_priority AS integer)
               AND (p.named_task_id, w.named_step_id) IN (
                   SELECT * FROM unnest(
                       CAST(:crowded_tasks AS bigint[]), CAST(:crowded_steps AS bigint[])
                   )
               ))
    LIMIT :steps_max
) s ON true
ORDER BY (- p.priority), p.task_id LIMIT :steps_max;
