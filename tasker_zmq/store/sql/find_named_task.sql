-- find_named_task: which definition a name means now, and the digest of what it says; the newest
-- published version when none is given.
SELECT t.named_task_id, t.template_digest
FROM tasker_task_namespaces n
JOIN tasker_named_tasks t USING (task_namespace_id)
WHERE n.name = :namespace AND t.name = :name
  AND (t.version = CAST(:version AS text) OR (CAST(:version AS text) IS NULL AND NOT t.inline))
ORDER BY t.named_task_id DESC LIMIT 1;
