-- reserve_ids: a block of fresh ids of an identity column, as one value: a row for each would take
-- the daemon longer than the sequence.
SELECT array_agg(nextval(s.sequence)) AS ids
FROM (SELECT CAST(pg_get_serial_sequence(:table, :column) AS regclass) AS sequence) s,
    generate_series(1, CAST(:count AS integer));
