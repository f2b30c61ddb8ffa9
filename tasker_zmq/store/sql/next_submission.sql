-- next_submission: when the next one is due.
SELECT s.due_at FROM tasker_submissions s
WHERE s.refused_at IS NULL AND s.due_at > CAST(:now AS timestamptz)
ORDER BY s.due_at LIMIT 1;
