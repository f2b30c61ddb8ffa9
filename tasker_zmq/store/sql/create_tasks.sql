-- create_tasks: tasks with their steps, edges and first transitions, whatever their number. A task
-- whose identity is taken is not created: it does not come back in `created`. The steps' ids come
-- from the caller, task by task in the order of positions: so a step's parents are found by
-- counting, never by a search among the steps of all tasks. `task_ids` must ascend. A task
-- whose time has not come is nobody's until then. Who asks knows from the definition which steps
-- are ready: they are not returned. Nor are the tasks, where `certain` says that no identity can be
-- taken: if one is all the same it fails (tasker_stale).
WITH wanted AS MATERIALIZED (
    SELECT u.*, nt.step_count, nt.leaf_count
    FROM unnest(
        CAST(:task_ids AS bigint[]), CAST(:named_task_ids AS bigint[]), CAST(:contexts AS text[]),
        CAST(:identities AS text[]), CAST(:priorities AS integer[]), CAST(:tags AS text[]),
        CAST(:initiators AS text[]), CAST(:source_systems AS text[]), CAST(:reasons AS text[]),
        CAST(:correlation_ids AS text[]), CAST(:scheduled_fors AS timestamptz[])
    ) AS u(task_id, named_task_id, context, identity, priority, tags, initiator, source_system,
           reason, correlation_id, scheduled_for)
    JOIN tasker_named_tasks nt USING (named_task_id)
),
created AS (
    INSERT INTO tasker_tasks
        (task_id, named_task_id, state, priority, step_count, unfinished_leaves, transitions,
         context, identity, tags, initiator, source_system, reason, correlation_id,
         processing_core_id, claimed_at, scheduled_for, requested_at)
    SELECT task_id, named_task_id, 'pending', priority, step_count, leaf_count, 1, context::jsonb,
        identity, ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), initiator, source_system,
        reason, correlation_id,
        CASE WHEN scheduled_for > CAST(:now AS timestamptz) THEN NULL ELSE :core_id END,
        CASE WHEN scheduled_for > CAST(:now AS timestamptz) THEN NULL
            ELSE CAST(:now AS timestamptz) END,
        scheduled_for, CAST(:now AS timestamptz)
    FROM wanted ORDER BY task_id
    ON CONFLICT (named_task_id, identity) WHERE identity IS NOT NULL DO NOTHING
    RETURNING task_id, named_task_id
),
task_written AS (
    INSERT INTO tasker_task_transitions
        (task_id, sort_key, from_state, to_state, event_name, created_at)
    SELECT task_id, 1, NULL, 'pending', 'create', CAST(:now AS timestamptz) FROM created
),
placed AS MATERIALIZED ( -- how many of the caller's ids belong to tasks before this one
    SELECT task_id, named_task_id,
        (CAST(:offsets AS integer[]))[width_bucket(task_id, CAST(:task_ids AS bigint[]))] AS before
    FROM created
),
step AS MATERIALIZED (
    SELECT c.task_id, c.before, d.named_step_id, n.name, d.is_leaf,
        d.retryable, d.retry_limit, d.parent_positions,
        (CAST(:step_ids AS bigint[]))[c.before + d.position] AS workflow_step_id
    FROM placed c
    JOIN tasker_named_tasks_named_steps d USING (named_task_id)
    JOIN tasker_named_steps n USING (named_step_id)
),
steps AS (
    INSERT INTO tasker_workflow_steps
        (workflow_step_id, task_id, named_step_id, name, state, is_leaf, retryable, retry_limit,
         unfinished_parents, transitions, created_at)
    SELECT workflow_step_id, task_id, named_step_id, name, 'pending', is_leaf, retryable,
        retry_limit, cardinality(parent_positions), 1, CAST(:now AS timestamptz)
    FROM step ORDER BY workflow_step_id
),
written AS (
    INSERT INTO tasker_workflow_step_transitions
        (workflow_step_id, sort_key, from_state, to_state, event_name, created_at)
    SELECT workflow_step_id, 1, NULL, 'pending', 'create', CAST(:now AS timestamptz) FROM step
),
edges AS (
    INSERT INTO tasker_workflow_step_edges (from_step_id, to_step_id)
    SELECT (CAST(:step_ids AS bigint[]))[s.before + parent.position], s.workflow_step_id
    FROM step s CROSS JOIN LATERAL unnest(s.parent_positions) AS parent(position)
),
agreed AS MATERIALIZED (
    SELECT CASE
        WHEN CAST(:certain AS boolean) AND count(*) <> cardinality(CAST(:task_ids AS bigint[]))
            THEN tasker_stale('new tasks', cardinality(CAST(:task_ids AS bigint[])), count(*))
        ELSE true END AS whole
    FROM created
)
SELECT created.task_id FROM agreed LEFT JOIN created ON NOT CAST(:certain AS boolean)
WHERE agreed.whole;
