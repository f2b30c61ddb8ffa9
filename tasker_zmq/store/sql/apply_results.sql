-- apply_results: what results come to, in one statement. Moves steps along their arrows and carries
-- the consequences: transitions, children that wait for one parent less, tasks whose last leaf is
-- complete. Adds to each batch what was heard of it, writes its transitions, and one ledger row for
-- each message. Moves are guarded by the expected state, and where memory decided them by the batch
-- as well, as batches are then by what was heard of them before: if any row is not as expected it
-- all fails (tasker_stale). `ready` rows are steps that may now be sent: by another core, if
-- `elsewhere` names one. Of steps that wait for another try, `postponed` names those whose task is
-- another core's. Where `foreseen` says how many steps become ready, and that nothing else follows,
-- only the tasks that are over are returned, and whatever else follows makes it fail.
WITH outcome AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:step_ids AS bigint[]), CAST(:from_states AS text[]), CAST(:to_states AS text[]),
        CAST(:events AS text[]), CAST(:results AS text[]), CAST(:errors AS text[]),
        CAST(:next_attempts AS timestamptz[]), CAST(:worker_names AS text[]),
        CAST(:uncharged AS integer[]), CAST(:lost AS integer[]), CAST(:unheard AS boolean[]),
        CAST(:carried_in AS bigint[])
    ) AS u(step_id, from_state, to_state, event, results, error, next_attempt_at, worker_name,
           uncharged, lost, unheard, carried_in)
),
moved AS (
    UPDATE tasker_workflow_steps s SET
        state = o.to_state,
        transitions = s.transitions + 1,
        results = CASE WHEN o.to_state = 'complete' THEN o.results::json ELSE s.results END,
        error = CASE WHEN o.to_state = 'complete' THEN NULL
            ELSE coalesce(o.error::json, s.error) END,
        next_attempt_at = o.next_attempt_at,
        attempts = s.attempts - o.uncharged,
        losses = s.losses + o.lost,
        unheard = CASE WHEN o.event = 'retry' THEN s.unheard ELSE o.unheard END,
        worker_name = coalesce(o.worker_name, s.worker_name),
        finished_at = CASE WHEN o.to_state IN ('complete', 'error', 'cancelled')
            THEN CAST(:now AS timestamptz) END
    FROM outcome o
    WHERE s.workflow_step_id = o.step_id AND s.state = o.from_state
      AND (o.carried_in IS NULL OR s.current_batch_id = o.carried_in)
    RETURNING s.workflow_step_id, s.task_id, s.named_step_id, s.is_leaf, s.transitions,
        s.state, s.unfinished_parents, s.attempts, s.retry_limit, s.created_at, o.from_state,
        o.event
),
written AS (
    INSERT INTO tasker_workflow_step_transitions
        (workflow_step_id, sort_key, from_state, to_state, event_name, created_at)
    SELECT workflow_step_id, transitions, from_state, state, event, CAST(:now AS timestamptz)
    FROM moved
),
unblocked AS (
    UPDATE tasker_workflow_steps c SET unfinished_parents = c.unfinished_parents - n.finished
    FROM (
        SELECT e.to_step_id, count(*)::integer AS finished
        FROM moved m JOIN tasker_workflow_step_edges e ON e.from_step_id = m.workflow_step_id
        WHERE m.state = 'complete' GROUP BY e.to_step_id
    ) n
    WHERE c.workflow_step_id = n.to_step_id
    RETURNING c.workflow_step_id, c.task_id, c.named_step_id, c.unfinished_parents, c.state,
        c.attempts, c.retry_limit, c.created_at
),
progress AS (
    SELECT task_id, count(*) FILTER (WHERE state = 'complete' AND is_leaf)::integer AS leaves,
        count(*) FILTER (WHERE state = 'error')::integer AS failures
    FROM moved GROUP BY task_id
),
advanced AS (
    UPDATE tasker_tasks t SET
        unfinished_leaves = t.unfinished_leaves - p.leaves,
        failed_steps = t.failed_steps + p.failures,
        state = CASE WHEN t.unfinished_leaves = p.leaves THEN 'complete' ELSE t.state END,
        transitions = t.transitions + (t.unfinished_leaves = p.leaves)::integer,
        completed_at = CASE WHEN t.unfinished_leaves = p.leaves THEN CAST(:now AS timestamptz) END
    FROM progress p
    WHERE t.task_id = p.task_id AND t.state = 'in_progress' AND p.leaves + p.failures > 0
    RETURNING t.task_id, t.state, t.transitions, t.failed_steps
),
task_written AS (
    INSERT INTO tasker_task_transitions
        (task_id, sort_key, from_state, to_state, event_name, created_at)
    SELECT task_id, transitions, 'in_progress', 'complete', 'complete', CAST(:now AS timestamptz)
    FROM advanced WHERE state = 'complete'
),
account AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:batch_ids AS bigint[]), CAST(:partials AS integer[]), CAST(:completed AS integer[]),
        CAST(:failed AS integer[]), CAST(:completions AS boolean[]), CAST(:states AS text[]),
        CAST(:transition_counts AS integer[]), CAST(:published AS timestamptz[]),
        CAST(:reconciliations AS text[]), CAST(:former_transitions AS integer[]),
        CAST(:former_partials AS integer[]), CAST(:former_completions AS boolean[]),
        CAST(:former_sessions AS text[])
    ) AS u(batch_id, partials, completed, failed, completion, state, transitions, published_at,
           reconciliation_status, former_transitions, former_partials, former_completion,
           former_session)
),
counted AS (
    UPDATE tasker_step_execution_batches b SET
        partial_results_received = b.partial_results_received + a.partials,
        completed_steps = b.completed_steps + a.completed,
        failed_steps = b.failed_steps + a.failed,
        final_completion_received = b.final_completion_received OR a.completion,
        state = a.state,
        transitions = a.transitions,
        published_at = coalesce(b.published_at, a.published_at),
        reconciliation_status = a.reconciliation_status,
        updated_at = CAST(:now AS timestamptz)
    FROM account a
    WHERE b.batch_id = a.batch_id AND (a.former_transitions IS NULL
        OR (b.transitions = a.former_transitions
            AND b.partial_results_received = a.former_partials
            AND b.final_completion_received = a.former_completion
            AND b.session_id = a.former_session))
    RETURNING b.batch_id
),
entry AS (
    INSERT INTO tasker_step_execution_batch_received_results
        (received_at, batch_id, batch_step_id, message_type, worker_id, session_id, core_id,
         sequence_number, status, execution_time_ms, verdict, processed_at, processing_errors,
         raw_message_json, raw_bytes)
    SELECT CAST(:now AS timestamptz), u.batch_id, u.batch_step_id, u.message_type, u.worker_id,
        u.session_id, CAST(:core_id AS text), u.sequence_number, u.status, u.execution_time_ms,
        u.verdict,
        CAST(:now AS timestamptz), u.processing_errors::json, u.raw_message_json::json, u.raw_bytes
    FROM unnest(
        CAST(:entry_batch_ids AS bigint[]), CAST(:batch_step_ids AS bigint[]),
        CAST(:message_types AS text[]), CAST(:worker_ids AS text[]),
        CAST(:session_ids AS text[]), CAST(:sequences AS bigint[]),
        CAST(:statuses AS text[]), CAST(:execution_times AS double precision[]),
        CAST(:verdicts AS text[]), CAST(:processing_errors AS text[]),
        CAST(:raw_messages AS text[]),
        CAST(:raw_bytes AS bytea[])
    ) AS u(batch_id, batch_step_id, message_type, worker_id, session_id, sequence_number, status,
           execution_time_ms, verdict, processing_errors, raw_message_json, raw_bytes)
),
arrow AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:arrow_batch_ids AS bigint[]), CAST(:arrow_sort_keys AS integer[]),
        CAST(:arrow_from AS text[]), CAST(:arrow_to AS text[]), CAST(:arrow_events AS text[]),
        CAST(:arrow_last AS boolean[])
    ) AS u(batch_id, sort_key, from_state, to_state, event, most_recent)
),
overtaken AS (
    UPDATE tasker_step_execution_batch_transitions t SET most_recent = false
    FROM arrow a WHERE t.batch_id = a.batch_id AND a.most_recent AND t.most_recent
    RETURNING t.batch_id
),
arrow_written AS (
    INSERT INTO tasker_step_execution_batch_transitions
        (batch_id, sort_key, most_recent, from_state, to_state, event_name, created_at)
    SELECT a.batch_id, a.sort_key, a.most_recent, a.from_state, a.to_state, a.event,
        CAST(:now AS timestamptz)
    FROM arrow a CROSS JOIN (SELECT count(*) AS flags FROM overtaken) o
    WHERE o.flags >= 0 -- the flags must be taken down before the new ones go up
),
told AS MATERIALIZED (
    SELECT 'ready' AS kind, r.workflow_step_id AS step_id, r.task_id, r.named_step_id,
        t.named_task_id, t.priority, r.attempts, r.retry_limit, r.created_at AS step_created_at,
        CASE WHEN t.processing_core_id <> :core_id THEN t.processing_core_id END AS elsewhere
    FROM (
        SELECT workflow_step_id, task_id, named_step_id, attempts, retry_limit, created_at
        FROM unblocked
        WHERE unfinished_parents = 0 AND state = 'pending'
        UNION ALL
        SELECT workflow_step_id, task_id, named_step_id, attempts, retry_limit, created_at
        FROM moved
        WHERE state = 'pending' AND unfinished_parents = 0
    ) r JOIN tasker_tasks t USING (task_id)
    UNION ALL
    SELECT 'postponed', NULL, m.task_id, NULL, NULL, NULL, NULL, NULL, NULL, t.processing_core_id
    FROM moved m JOIN tasker_tasks t USING (task_id)
    WHERE m.state = 'waiting_for_retry' AND t.processing_core_id <> :core_id
    UNION ALL
    SELECT 'blocked', NULL, task_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM advanced WHERE failed_steps > 0 AND state = 'in_progress'
    UNION ALL
    SELECT 'blocked', NULL, p.task_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM progress p JOIN tasker_tasks t USING (task_id) -- those that are not among the advanced
    WHERE p.leaves + p.failures = 0 AND t.failed_steps > 0 AND t.state = 'in_progress'
    UNION ALL
    SELECT 'finished', NULL, task_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL
    FROM advanced WHERE state = 'complete'
),
agreed AS MATERIALIZED (
    SELECT CASE
        WHEN moved.n <> cardinality(CAST(:step_ids AS bigint[]))
            THEN tasker_stale('steps to move', cardinality(CAST(:step_ids AS bigint[])), moved.n)
        WHEN counted.n <> cardinality(CAST(:batch_ids AS bigint[]))
            THEN tasker_stale('batches', cardinality(CAST(:batch_ids AS bigint[])), counted.n)
        WHEN other.ready <> CAST(:foreseen AS integer)
            THEN tasker_stale('steps to be ready', CAST(:foreseen AS integer), other.ready)
        WHEN other.surprises > 0 AND CAST(:foreseen AS integer) IS NOT NULL
            THEN tasker_stale('tasks held up', 0, other.surprises)
        ELSE true END AS whole
    FROM (SELECT count(*) AS n FROM moved) moved
    CROSS JOIN (SELECT count(*) AS n FROM counted) counted
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE kind = 'ready') AS ready,
            count(*) FILTER (WHERE kind = 'blocked' OR elsewhere IS NOT NULL) AS surprises
        FROM told
    ) other
)
SELECT told.* FROM agreed LEFT JOIN told ON CAST(:foreseen AS integer) IS NULL
    OR told.kind = 'finished'
WHERE agreed.whole;
