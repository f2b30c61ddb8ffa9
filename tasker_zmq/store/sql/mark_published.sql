-- mark_published: batches that went out a while ago and of which nothing was heard yet.
WITH sent AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:batch_ids AS bigint[]), CAST(:moments AS timestamptz[]))
        AS u(batch_id, published_at)
),
held AS MATERIALIZED (
    SELECT b.batch_id FROM tasker_step_execution_batches b
    WHERE b.batch_id = ANY(CAST(:batch_ids AS bigint[])) AND b.state = 'created'
    ORDER BY b.batch_id FOR NO KEY UPDATE
),
moved AS (
    UPDATE tasker_step_execution_batches b SET state = 'published', published_at = s.published_at,
        transitions = b.transitions + 1, updated_at = CAST(:now AS timestamptz)
    FROM sent s, held h WHERE b.batch_id = s.batch_id AND b.batch_id = h.batch_id
    RETURNING b.batch_id, b.transitions
),
overtaken AS (
    UPDATE tasker_step_execution_batch_transitions t SET most_recent = false
    FROM moved m WHERE t.batch_id = m.batch_id AND t.most_recent
    RETURNING t.batch_id
)
INSERT INTO tasker_step_execution_batch_transitions
    (batch_id, sort_key, most_recent, from_state, to_state, event_name, created_at)
SELECT m.batch_id, m.transitions, true, 'created', 'published', 'publish', CAST(:now AS timestamptz)
FROM moved m JOIN overtaken o USING (batch_id);
