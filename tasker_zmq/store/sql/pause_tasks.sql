-- pause_tasks: holds tasks up, or lets them go on in this core's hands, once their time has come.
UPDATE tasker_tasks t SET paused = CAST(:paused AS boolean),
    processing_core_id = CASE WHEN CAST(:paused AS boolean)
            OR (t.processing_core_id IS NULL AND t.scheduled_for > CAST(:now AS timestamptz))
        THEN t.processing_core_id ELSE :core_id END
WHERE t.task_id = ANY(CAST(:task_ids AS bigint[])) AND t.state IN ('pending', 'in_progress');
