-- associate_worker: the published named tasks that a worker declares, as its associations; what it
-- declared before and declares no more is taken back. A declared version may be any (*); one that
-- is named counts more. Returns the tasks that it knows now.
WITH declared AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:namespaces AS text[]), CAST(:task_names AS text[]), CAST(:versions AS text[]),
        CAST(:configurations AS text[]), CAST(:priorities AS integer[])
    ) AS u(namespace, name, version, configuration, priority)
),
matched AS MATERIALIZED (
    SELECT DISTINCT ON (t.named_task_id) t.named_task_id, d.namespace, d.name, t.version,
        d.configuration::jsonb AS configuration, d.priority
    FROM declared d
    JOIN tasker_task_namespaces n ON n.name = d.namespace
    JOIN tasker_named_tasks t ON t.task_namespace_id = n.task_namespace_id AND t.name = d.name
        AND (d.version = '*' OR t.version = d.version)
    ORDER BY t.named_task_id, d.version = '*'
),
given_up AS (
    DELETE FROM tasker_worker_named_tasks a
    WHERE a.worker_id = :worker_id
      AND a.named_task_id NOT IN (SELECT m.named_task_id FROM matched m)
),
kept AS (
    INSERT INTO tasker_worker_named_tasks AS a
        (worker_id, named_task_id, configuration, priority, created_at, updated_at)
    SELECT :worker_id, m.named_task_id, m.configuration, m.priority,
        CAST(:now AS timestamptz), CAST(:now AS timestamptz)
    FROM matched m
    ON CONFLICT (worker_id, named_task_id) DO UPDATE SET
        configuration = excluded.configuration, priority = excluded.priority,
        updated_at = excluded.updated_at
    WHERE (a.configuration, a.priority)
        IS DISTINCT FROM (excluded.configuration, excluded.priority)
)
SELECT m.named_task_id, m.namespace, m.name, m.version FROM matched m;
