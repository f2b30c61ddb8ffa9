-- start_batches: writes new batches, their join rows and first transitions, moves their steps to
-- in_progress, and starts their tasks. Steps may have been offered from memory: unless all of them
-- can still be sent it fails (tasker_stale).
WITH sent AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:step_ids AS bigint[]), CAST(:step_batch_ids AS bigint[]), CAST(:orders AS integer[]),
        CAST(:handler_classes AS text[]), CAST(:attempts AS integer[]),
        CAST(:confirmed AS boolean[]), CAST(:batch_step_ids AS bigint[])
    ) AS u(step_id, batch_id, sequence_order, handler_class, attempts, confirmed, batch_step_id)
),
batch AS (
    INSERT INTO tasker_step_execution_batches
        (batch_id, batch_uuid, task_id, handler_class, registration_id, session_id, core_id, state,
         initiated_by, batch_size, timeout_seconds, publication, transitions, created_at,
         updated_at)
    SELECT u.batch_id, u.batch_uuid, u.task_id, u.handler_class, u.registration_id, u.session_id,
        :core_id, 'created', 'dispatch', u.batch_size, u.timeout_seconds, u.publication, 1,
        CAST(:now AS timestamptz), CAST(:now AS timestamptz)
    FROM unnest(
        CAST(:batch_ids AS bigint[]), CAST(:batch_uuids AS uuid[]),
        CAST(:batch_task_ids AS bigint[]), CAST(:batch_handlers AS text[]),
        CAST(:registration_ids AS bigint[]),
        CAST(:session_ids AS text[]), CAST(:batch_sizes AS integer[]),
        CAST(:timeouts AS integer[]), CAST(:publications AS bigint[])
    ) AS u(batch_id, batch_uuid, task_id, handler_class, registration_id, session_id, batch_size,
           timeout_seconds, publication)
    RETURNING batch_id
),
batch_written AS (
    INSERT INTO tasker_step_execution_batch_transitions
        (batch_id, sort_key, most_recent, from_state, to_state, event_name, created_at)
    SELECT batch_id, 1, true, NULL, 'created', 'create', CAST(:now AS timestamptz) FROM batch
),
started AS (
    UPDATE tasker_workflow_steps s SET state = 'in_progress', attempts = s.attempts + 1,
        transitions = s.transitions + 1, current_batch_id = n.batch_id,
        started_at = CAST(:now AS timestamptz), next_attempt_at = NULL, finished_at = NULL,
        unheard = false
    FROM sent n
    WHERE s.workflow_step_id = n.step_id AND s.state = 'pending' AND s.unfinished_parents = 0
      AND s.attempts = n.attempts
      AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= CAST(:now AS timestamptz))
      AND ( -- a value and no join: those may be planned as a walk through all tasks
          SELECT t.state IN ('pending', 'in_progress') AND NOT t.paused
              AND t.processing_core_id = :core_id
          FROM tasker_tasks t WHERE t.task_id = s.task_id
      )
    RETURNING s.workflow_step_id, s.task_id, s.transitions, s.attempts, n.batch_id,
        n.sequence_order, n.handler_class, n.confirmed, n.batch_step_id
),
written AS (
    INSERT INTO tasker_workflow_step_transitions
        (workflow_step_id, sort_key, from_state, to_state, event_name, created_at)
    SELECT workflow_step_id, transitions, 'pending', 'in_progress', 'start',
        CAST(:now AS timestamptz)
    FROM started
),
carried AS (
    INSERT INTO tasker_step_execution_batch_steps
        (id, batch_id, workflow_step_id, sequence_order, attempt, expected_handler_class,
         confirmed_at, created_at)
    SELECT batch_step_id, batch_id, workflow_step_id, sequence_order, attempts - 1, handler_class,
        CASE WHEN confirmed THEN CAST(:now AS timestamptz) END, CAST(:now AS timestamptz)
    FROM started
),
task_started AS (
    UPDATE tasker_tasks t SET state = 'in_progress', transitions = t.transitions + 1
    WHERE t.task_id IN (SELECT task_id FROM started) AND t.state = 'pending'
    RETURNING t.task_id, t.transitions
),
task_written AS (
    INSERT INTO tasker_task_transitions
        (task_id, sort_key, from_state, to_state, event_name, created_at)
    SELECT task_id, transitions, 'pending', 'in_progress', 'start', CAST(:now AS timestamptz)
    FROM task_started
)
SELECT CASE WHEN count(*) = cardinality(CAST(:step_ids AS bigint[])) THEN true
    ELSE tasker_stale('steps to start', cardinality(CAST(:step_ids AS bigint[])), count(*)) END
FROM started;
