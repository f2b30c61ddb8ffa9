-- settle_batches: the reconciler's verdict on batches, and each difference once.
WITH verdict AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:batch_ids AS bigint[]), CAST(:statuses AS text[]))
        AS u(batch_id, status)
),
settled AS (
    UPDATE tasker_step_execution_batches b SET reconciliation_status = v.status,
        updated_at = CAST(:now AS timestamptz)
    FROM verdict v WHERE b.batch_id = v.batch_id
)
INSERT INTO tasker_step_execution_batch_discrepancies
    (batch_id, workflow_step_id, kind, partial_says, completion_says, found_at)
SELECT u.batch_id, u.step_id, u.kind, u.partial_says, u.completion_says, CAST(:now AS timestamptz)
FROM unnest(
    CAST(:difference_batch_ids AS bigint[]), CAST(:difference_step_ids AS bigint[]),
    CAST(:kinds AS text[]), CAST(:partials_say AS text[]), CAST(:completions_say AS text[])
) AS u(batch_id, step_id, kind, partial_says, completion_says)
ON CONFLICT DO NOTHING;
