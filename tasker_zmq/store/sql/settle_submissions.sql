-- settle_submissions: those that are tasks now go, those that cannot be stay, with the reason.
WITH made AS (
    DELETE FROM tasker_submissions s
    USING unnest(CAST(:made AS bigint[])) AS m(submission_id)
    WHERE s.submission_id = m.submission_id
)
UPDATE tasker_submissions s
SET refused_at = CAST(:now AS timestamptz), refusal = r.refusal
FROM unnest(CAST(:refused AS bigint[]), CAST(:refusals AS text[])) AS r(submission_id, refusal)
WHERE s.submission_id = r.submission_id;
