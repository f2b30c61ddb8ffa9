-- send_batches_again: how often batches have been published, and under which number the last time.
UPDATE tasker_step_execution_batches b SET deliveries = u.delivery, publication = u.publication,
    updated_at = CAST(:now AS timestamptz)
FROM unnest(
    CAST(:batch_ids AS bigint[]), CAST(:deliveries AS integer[]), CAST(:publications AS bigint[]))
    AS u(batch_id, delivery, publication)
WHERE b.batch_id = u.batch_id;
