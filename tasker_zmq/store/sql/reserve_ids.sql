-- reserve_ids: a block of fresh ids of an identity column, as one value: a row for each would take
-- the daemon longer than the sequence. Which sequence that is, is found out once, not for each id.
WITH own AS MATERIALIZED (
    SELECT CAST(pg_get_serial_sequence(:table, :column) AS regclass) AS sequence
)
SELECT array_agg(nextval(own.sequence)) AS ids
FROM own, generate_series(1, CAST(:count AS integer));
