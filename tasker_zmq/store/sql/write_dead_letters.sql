-- write_dead_letters: one per step that nobody will retry, with what it looked like then.
INSERT INTO tasker_dead_letters
    (task_id, workflow_step_id, reason, fingerprint, snapshot, created_at)
SELECT s.task_id, s.workflow_step_id, u.reason, u.fingerprint,
    json_build_object('step_name', s.name, 'attempts', s.attempts, 'losses', s.losses,
                      'error', s.error, 'worker_name', s.worker_name,
                      'batch_id', s.current_batch_id),
    CAST(:now AS timestamptz)
FROM unnest(CAST(:step_ids AS bigint[]), CAST(:reasons AS text[]), CAST(:fingerprints AS text[]))
    AS u(step_id, reason, fingerprint)
JOIN tasker_workflow_steps s ON s.workflow_step_id = u.step_id;
