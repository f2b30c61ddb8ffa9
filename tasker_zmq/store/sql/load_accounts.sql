-- load_accounts: both accounts of batches as the ledger has them, and the steps they carried.
SELECT b.batch_id, 'step' AS kind, bs.workflow_step_id AS step_id, NULL AS status,
    NULL::bigint AS sequence_number, NULL AS session_id, NULL AS raw, NULL AS verdict,
    bs.id AS position
FROM unnest(CAST(:batch_ids AS bigint[])) AS b(batch_id)
JOIN tasker_step_execution_batch_steps bs USING (batch_id)
UNION ALL
SELECT r.batch_id, r.message_type, bs.workflow_step_id, r.status, r.sequence_number, r.session_id,
    r.raw_message_json::text, r.verdict, r.id
FROM unnest(CAST(:batch_ids AS bigint[])) AS b(batch_id)
JOIN tasker_step_execution_batch_received_results r USING (batch_id)
LEFT JOIN tasker_step_execution_batch_steps bs ON bs.id = r.batch_step_id
ORDER BY 1, 9;
