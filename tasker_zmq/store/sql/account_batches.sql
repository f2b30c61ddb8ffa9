-- account_batches: adds what a tick heard of each batch and writes the batch's transitions, of which
-- the last becomes the most recent. The batches were locked when they were loaded.
WITH account AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:batch_ids AS bigint[]), CAST(:partials AS integer[]), CAST(:completed AS integer[]),
        CAST(:failed AS integer[]), CAST(:completions AS boolean[]), CAST(:states AS text[]),
        CAST(:transition_counts AS integer[]), CAST(:published AS timestamptz[]),
        CAST(:reconciliations AS text[])
    ) AS u(batch_id, partials, completed, failed, completion, state, transitions, published_at,
           reconciliation_status)
),
counted AS (
    UPDATE tasker_step_execution_batches b SET
        partial_results_received = b.partial_results_received + a.partials,
        completed_steps = b.completed_steps + a.completed,
        failed_steps = b.failed_steps + a.failed,
        final_completion_received = b.final_completion_received OR a.completion,
        state = a.state,
        transitions = a.transitions,
        published_at = coalesce(b.published_at, a.published_at),
        reconciliation_status = a.reconciliation_status,
        updated_at = CAST(:now AS timestamptz)
    FROM account a WHERE b.batch_id = a.batch_id
),
arrow AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:arrow_batch_ids AS bigint[]), CAST(:arrow_sort_keys AS integer[]),
        CAST(:arrow_from AS text[]), CAST(:arrow_to AS text[]), CAST(:arrow_events AS text[]),
        CAST(:arrow_last AS boolean[])
    ) AS u(batch_id, sort_key, from_state, to_state, event, most_recent)
),
overtaken AS (
    UPDATE tasker_step_execution_batch_transitions t SET most_recent = false
    FROM arrow a WHERE t.batch_id = a.batch_id AND a.most_recent AND t.most_recent
    RETURNING t.batch_id
)
INSERT INTO tasker_step_execution_batch_transitions
    (batch_id, sort_key, most_recent, from_state, to_state, event_name, created_at)
SELECT a.batch_id, a.sort_key, a.most_recent, a.from_state, a.to_state, a.event,
    CAST(:now AS timestamptz)
FROM arrow a CROSS JOIN (SELECT count(*) AS flags FROM overtaken) o
WHERE o.flags >= 0; -- the flags must be taken down before the new ones go up
