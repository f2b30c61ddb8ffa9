-- show_task: one task as a client sees it, without its steps. Whoever waits for a task asks this as
-- soon as it is over, so it is prepared like the statements of the tick.
SELECT t.task_id, n.name || '/' || w.name || '@' || w.version AS workflow, t.state, t.paused,
    t.priority, t.identity, t.tags, t.step_count,
    (
        SELECT count(*) FROM tasker_workflow_steps s
        WHERE s.task_id = t.task_id AND s.state IN ('complete', 'resolved_manually')
    ) AS steps_done,
    t.failed_steps, t.requested_at, t.completed_at, t.context, t.error, t.initiator,
    t.source_system, t.reason, t.correlation_id, t.processing_core_id AS core_id, t.scheduled_for
FROM tasker_tasks t
JOIN tasker_named_tasks w USING (named_task_id)
JOIN tasker_task_namespaces n USING (task_namespace_id)
WHERE t.task_id = CAST(:task_id AS bigint);
