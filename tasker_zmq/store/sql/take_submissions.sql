-- take_submissions: the oldest that are due and that no other core is taking right now.
SELECT s.submission_id, s.task_id, s.named_task_id, s.context::text AS context, s.identity,
    s.priority, array_to_json(s.tags)::text AS tags, s.initiator, s.reason, t.template_digest,
    t.step_count
FROM tasker_submissions s JOIN tasker_named_tasks t USING (named_task_id)
WHERE s.refused_at IS NULL AND s.due_at <= CAST(:now AS timestamptz)
ORDER BY s.due_at, s.submission_id LIMIT :at_most
FOR UPDATE OF s SKIP LOCKED;
