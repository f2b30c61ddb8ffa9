-- record_results: what a tick received: a ledger row per message, what it adds to each batch, and
-- the batches' transitions, of which the last becomes the most recent. The batches were locked when
-- they were loaded; a ledger row is inserted once and never touched again.
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
entry AS (
    INSERT INTO tasker_step_execution_batch_received_results
        (received_at, batch_id, batch_step_id, message_type, worker_id, session_id, core_id,
         sequence_number, status, execution_time_ms, verdict, processed_at, processing_errors,
         raw_message_json, raw_bytes)
    SELECT CAST(:now AS timestamptz), u.batch_id, u.batch_step_id, u.message_type, u.worker_id,
        u.session_id, :core_id, u.sequence_number, u.status, u.execution_time_ms, u.verdict,
        CAST(:now AS timestamptz), u.processing_errors::json, u.raw_message_json::json, u.raw_bytes
    FROM unnest(
        CAST(:entry_batch_ids AS bigint[]), CAST(:batch_step_ids AS bigint[]),
        CAST(:message_types AS text[]), CAST(:worker_ids AS text[]),
        CAST(:session_ids AS text[]), CAST(:sequences AS bigint[]),
        CAST(:statuses AS text[]), CAST(:execution_times AS double precision[]),
        CAST(:verdicts AS text[]), CAST(:processing_errors AS text[]),
        CAST(:raw_messages AS text[]),
        CAST(:raw_bytes AS bytea[])
    ) AS u(batch_id, batch_step_id, message_type, worker_id, session_id, sequence_number, status,
           execution_time_ms, verdict, processing_errors, raw_message_json, raw_bytes)
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
