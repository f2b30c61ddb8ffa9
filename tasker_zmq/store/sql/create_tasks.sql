-- create_tasks: tasks with their steps, edges and first transitions, whatever their number. A task
-- whose identity is taken is not created: it does not come back in `created`.
WITH wanted AS MATERIALIZED (
    SELECT u.*, nt.step_count, nt.leaf_count
    FROM unnest(
        CAST(:task_ids AS bigint[]), CAST(:named_task_ids AS bigint[]), CAST(:contexts AS text[]),
        CAST(:identities AS text[]), CAST(:priorities AS integer[]), CAST(:tags AS text[]),
        CAST(:initiators AS text[]), CAST(:source_systems AS text[]), CAST(:reasons AS text[]),
        CAST(:correlation_ids AS text[])
    ) AS u(task_id, named_task_id, context, identity, priority, tags, initiator, source_system,
           reason, correlation_id)
    JOIN tasker_named_tasks nt USING (named_task_id)
),
created AS (
    INSERT INTO tasker_tasks
        (task_id, named_task_id, state, priority, step_count, unfinished_leaves, transitions,
         context, identity, tags, initiator, source_system, reason, correlation_id,
         processing_core_id, claimed_at, requested_at)
    SELECT task_id, named_task_id, 'pending', priority, step_count, leaf_count, 1, context::jsonb,
        identity, ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), initiator, source_system,
        reason, correlation_id, :core_id, CAST(:now AS timestamptz), CAST(:now AS timestamptz)
    FROM wanted ORDER BY task_id
    ON CONFLICT (named_task_id, identity) WHERE identity IS NOT NULL DO NOTHING
    RETURNING task_id, named_task_id, priority
),
task_written AS (
    INSERT INTO tasker_task_transitions
        (task_id, sort_key, from_state, to_state, event_name, created_at)
    SELECT task_id, 1, NULL, 'pending', 'create', CAST(:now AS timestamptz) FROM created
),
steps AS (
    INSERT INTO tasker_workflow_steps
        (task_id, named_step_id, name, state, is_leaf, retryable, retry_limit, unfinished_parents,
         transitions, created_at)
    SELECT c.task_id, d.named_step_id, n.name, 'pending', d.is_leaf, d.retryable, d.retry_limit,
        cardinality(d.depends_on), 1, CAST(:now AS timestamptz)
    FROM created c
    JOIN tasker_named_tasks_named_steps d USING (named_task_id)
    JOIN tasker_named_steps n USING (named_step_id)
    ORDER BY c.task_id, d.position
    RETURNING workflow_step_id, task_id, named_step_id, name, unfinished_parents, attempts,
        retry_limit, created_at
),
written AS (
    INSERT INTO tasker_workflow_step_transitions
        (workflow_step_id, sort_key, from_state, to_state, event_name, created_at)
    SELECT workflow_step_id, 1, NULL, 'pending', 'create', CAST(:now AS timestamptz) FROM steps
),
edges AS (
    INSERT INTO tasker_workflow_step_edges (from_step_id, to_step_id)
    SELECT p.workflow_step_id, s.workflow_step_id
    FROM steps s
    JOIN created c USING (task_id)
    JOIN tasker_named_tasks_named_steps d
        ON d.named_task_id = c.named_task_id AND d.named_step_id = s.named_step_id
    CROSS JOIN LATERAL unnest(d.depends_on) AS parent(name)
    JOIN steps p ON p.task_id = s.task_id AND p.name = parent.name
)
SELECT 'created' AS kind, task_id, NULL::bigint AS step_id, named_task_id,
    NULL::bigint AS named_step_id, priority, NULL::integer AS attempts,
    NULL::integer AS retry_limit, NULL::timestamptz AS step_created_at
FROM created
UNION ALL
SELECT 'ready', s.task_id, s.workflow_step_id, c.named_task_id, s.named_step_id, c.priority,
    s.attempts, s.retry_limit, s.created_at
FROM steps s JOIN created c USING (task_id) WHERE s.unfinished_parents = 0;
