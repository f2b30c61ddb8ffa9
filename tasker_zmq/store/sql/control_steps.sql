-- control_steps: moves steps along one arrow because a person said so, with what follows: children
-- that wait for one parent less, their tasks' counters, failed tasks that go on, tasks whose last
-- leaf is done. This core becomes the owner of the tasks. Steps and tasks were locked when they
-- were loaded; `moved` rows are exactly those that moved, `task` rows say how their tasks stand.
WITH held AS MATERIALIZED (
    SELECT s.workflow_step_id, s.state FROM tasker_workflow_steps s
    WHERE s.workflow_step_id = ANY(CAST(:step_ids AS bigint[]))
    ORDER BY s.workflow_step_id FOR NO KEY UPDATE
),
moved AS (
    UPDATE tasker_workflow_steps s SET
        state = :to_state,
        transitions = s.transitions + 1,
        results = CASE WHEN :to_state = 'resolved_manually' THEN CAST(:results AS json)
            ELSE s.results END,
        attempts = CASE WHEN :to_state = 'pending' AND h.state IN ('error', 'in_doubt') THEN 0
            ELSE s.attempts END,
        losses = CASE WHEN :to_state = 'pending' AND h.state IN ('error', 'in_doubt') THEN 0
            ELSE s.losses END,
        next_attempt_at = NULL,
        finished_at = CASE WHEN :to_state <> 'pending' THEN CAST(:now AS timestamptz) END
    FROM held h
    WHERE s.workflow_step_id = h.workflow_step_id
      AND h.state = ANY(CAST(:from_states AS text[]))
    RETURNING s.workflow_step_id, s.task_id, s.is_leaf, s.transitions, s.state,
        h.state AS from_state
),
written AS (
    INSERT INTO tasker_workflow_step_transitions
        (workflow_step_id, sort_key, from_state, to_state, event_name, metadata, created_at)
    SELECT workflow_step_id, transitions, from_state, state, :event, CAST(:metadata AS json),
        CAST(:now AS timestamptz)
    FROM moved
),
unblocked AS (
    UPDATE tasker_workflow_steps c SET unfinished_parents = c.unfinished_parents - n.finished
    FROM (
        SELECT e.to_step_id, count(*)::integer AS finished
        FROM moved m JOIN tasker_workflow_step_edges e ON e.from_step_id = m.workflow_step_id
        WHERE m.state = 'resolved_manually' GROUP BY e.to_step_id
    ) n
    WHERE c.workflow_step_id = n.to_step_id
),
progress AS (
    SELECT task_id,
        count(*) FILTER (WHERE state = 'resolved_manually' AND is_leaf)::integer AS leaves,
        (count(*) FILTER (WHERE state = 'cancelled')
            - count(*) FILTER (WHERE from_state = 'error'))::integer AS failures
    FROM moved GROUP BY task_id
),
former AS MATERIALIZED (
    SELECT t.task_id, t.state, t.processing_core_id AS core_id,
        t.unfinished_leaves = p.leaves AS done
    FROM progress p JOIN tasker_tasks t USING (task_id)
    WHERE t.state IN ('pending', 'in_progress', 'error')
),
advanced AS (
    UPDATE tasker_tasks t SET
        unfinished_leaves = t.unfinished_leaves - p.leaves,
        failed_steps = t.failed_steps + p.failures,
        state = CASE WHEN f.done THEN 'complete' WHEN f.state = 'error' THEN 'in_progress'
            ELSE f.state END,
        transitions = t.transitions + f.done::integer
            + (f.state = 'error' OR (f.state = 'pending' AND f.done))::integer,
        completed_at = CASE WHEN f.done THEN CAST(:now AS timestamptz) END,
        error = NULL,
        processing_core_id = CASE
            WHEN t.processing_core_id IS NULL AND t.scheduled_for > CAST(:now AS timestamptz)
                AND NOT f.done THEN NULL
            ELSE :core_id END
    FROM former f JOIN progress p USING (task_id)
    WHERE t.task_id = f.task_id
    RETURNING t.task_id, t.state, t.transitions, t.failed_steps, f.state AS from_state, f.done,
        f.core_id IS DISTINCT FROM :core_id AS taken
),
task_written AS (
    INSERT INTO tasker_task_transitions
        (task_id, sort_key, from_state, to_state, event_name, metadata, created_at)
    SELECT task_id, transitions - done::integer, from_state, 'in_progress',
        CASE from_state WHEN 'error' THEN 'retry' ELSE 'start' END, CAST(:metadata AS json),
        CAST(:now AS timestamptz)
    FROM advanced WHERE from_state = 'error' OR (from_state = 'pending' AND done)
    UNION ALL
    SELECT task_id, transitions, 'in_progress', 'complete', 'complete', NULL,
        CAST(:now AS timestamptz)
    FROM advanced WHERE done
)
SELECT 'moved' AS kind, workflow_step_id AS step_id, task_id, NULL AS task_state,
    NULL::integer AS failed_steps, false AS taken
FROM moved
UNION ALL
SELECT 'task', NULL, task_id, state, failed_steps, taken FROM advanced;
