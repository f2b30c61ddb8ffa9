-- record_ledger: one row per received message, inserted once, with what became of it.
INSERT INTO tasker_step_execution_batch_received_results
    (received_at, batch_id, batch_step_id, message_type, worker_id, session_id, core_id,
     sequence_number, status, execution_time_ms, verdict, processed_at, processing_errors,
     raw_message_json, raw_bytes)
SELECT CAST(:now AS timestamptz), u.batch_id, u.batch_step_id, u.message_type, u.worker_id,
    u.session_id, :core_id, u.sequence_number, u.status, u.execution_time_ms, u.verdict,
    CAST(:now AS timestamptz), u.processing_errors::json, u.raw_message_json::json, u.raw_bytes
FROM unnest(
    CAST(:batch_ids AS bigint[]), CAST(:batch_step_ids AS bigint[]), CAST(:message_types AS text[]),
    CAST(:worker_ids AS text[]), CAST(:session_ids AS text[]), CAST(:sequences AS bigint[]),
    CAST(:statuses AS text[]), CAST(:execution_times AS double precision[]),
    CAST(:verdicts AS text[]), CAST(:processing_errors AS text[]), CAST(:raw_messages AS text[]),
    CAST(:raw_bytes AS bytea[])
) AS u(batch_id, batch_step_id, message_type, worker_id, session_id, sequence_number, status,
       execution_time_ms, verdict, processing_errors, raw_message_json, raw_bytes);
