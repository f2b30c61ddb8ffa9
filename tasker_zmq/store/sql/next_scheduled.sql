-- next_scheduled: when the next task will be due that nobody owns until then.
SELECT t.scheduled_for FROM tasker_tasks t
WHERE t.completed_at IS NULL AND t.processing_core_id IS NULL AND t.scheduled_for IS NOT NULL
  AND t.scheduled_for > CAST(:now AS timestamptz)
ORDER BY t.scheduled_for LIMIT 1;
