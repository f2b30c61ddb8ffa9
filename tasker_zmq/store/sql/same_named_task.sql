-- same_named_task: whether a name still means the definition that memory has (find_named_task): it
-- fails if not (tasker_stale), and so does what was made by it.
SELECT CASE
    WHEN found.named_task_id = CAST(:named_task_id AS bigint)
        AND found.template_digest = CAST(:digest AS text) THEN true
    ELSE tasker_stale('named tasks that are as before', 1, 0) END
FROM (SELECT 1) AS asked
LEFT JOIN LATERAL (
    SELECT t.named_task_id, t.template_digest
    FROM tasker_task_namespaces n
    JOIN tasker_named_tasks t USING (task_namespace_id)
    WHERE n.name = :namespace AND t.name = :name
      AND (t.version = CAST(:version AS text) OR (CAST(:version AS text) IS NULL AND NOT t.inline))
    ORDER BY t.named_task_id DESC LIMIT 1
) found ON true;
