"""Weekly partitions, the ledger's guard, and the functions and views that people read."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PARTITIONED = (
    ("tasker_step_execution_batch_received_results", "received_at"),
    ("tasker_worker_command_audit", "created_at"),
)

ENSURE_PARTITIONS = """
CREATE FUNCTION tasker_ensure_partitions(parent text, around timestamptz, weeks_ahead integer)
RETURNS integer LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    week timestamptz := date_trunc('week', around);
    child text;
    made integer := 0;
BEGIN
    -- One week back too: a message of Sunday night may be written on Monday.
    FOR step IN -1..weeks_ahead LOOP
        child := parent || to_char(week + step * interval '7 days', '"_p"IYYY"w"IW');
        CONTINUE WHEN to_regclass(child) IS NOT NULL;
        PERFORM pg_advisory_xact_lock(hashtext(parent));
        -- Who held the lock may have made it; to_regclass would answer from its cache.
        CONTINUE WHEN EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = parent::regclass AND c.relname = child);
        -- Made apart and attached: unlike PARTITION OF this stops neither readers nor writers.
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS)', child, parent);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, child,
            week + step * interval '7 days', week + (step + 1) * interval '7 days');
        made := made + 1;
    END LOOP;
    RETURN made;
END $$
"""

REFUSE_CHANGES = """
CREATE FUNCTION tasker_refuse_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$
"""

GUARD = """
CREATE TRIGGER tasker_append_only BEFORE UPDATE OR DELETE
ON tasker_step_execution_batch_received_results
FOR EACH ROW EXECUTE FUNCTION tasker_refuse_changes()
"""

READY_TASKS = """
CREATE FUNCTION get_ready_tasks_for_processing(at_most integer, at timestamptz DEFAULT now())
RETURNS TABLE (task_id bigint, namespace text, name text, version text, priority integer,
               ready_steps bigint, requested_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT t.task_id, n.name, nt.name, nt.version, t.priority, count(*), t.requested_at
    FROM tasker_tasks t
    JOIN tasker_named_tasks nt USING (named_task_id)
    JOIN tasker_task_namespaces n USING (task_namespace_id)
    JOIN tasker_workflow_steps s USING (task_id)
    WHERE t.completed_at IS NULL AND t.state IN ('pending', 'in_progress') AND NOT t.paused
      AND (t.scheduled_for IS NULL OR t.scheduled_for <= at)
      AND s.state = 'pending' AND s.unfinished_parents = 0
      AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= at)
    GROUP BY t.task_id, n.name, nt.name, nt.version
    ORDER BY t.priority DESC, t.task_id
    LIMIT at_most
$$
"""

EXECUTION_CONTEXT = """
CREATE FUNCTION get_task_execution_context(for_task_id bigint, at timestamptz DEFAULT now())
RETURNS TABLE (task_id bigint, state text, total_steps bigint, pending_steps bigint,
               in_progress_steps bigint, waiting_steps bigint, completed_steps bigint,
               failed_steps bigint, ready_steps bigint)
LANGUAGE sql STABLE AS $$
    SELECT t.task_id, t.state, count(*),
        count(*) FILTER (WHERE s.state = 'pending'),
        count(*) FILTER (WHERE s.state = 'in_progress'),
        count(*) FILTER (WHERE s.state = 'waiting_for_retry'),
        count(*) FILTER (WHERE s.state IN ('complete', 'resolved_manually')),
        count(*) FILTER (WHERE s.state IN ('error', 'in_doubt')),
        count(*) FILTER (WHERE s.state = 'pending' AND s.unfinished_parents = 0
                         AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= at))
    FROM tasker_tasks t JOIN tasker_workflow_steps s USING (task_id)
    WHERE t.task_id = for_task_id GROUP BY t.task_id, t.state
$$
"""

VIEWS = {
    "tasker_current_task_transitions": """
        SELECT DISTINCT ON (task_id) * FROM tasker_task_transitions
        ORDER BY task_id, sort_key DESC""",
    "tasker_current_step_transitions": """
        SELECT DISTINCT ON (workflow_step_id) * FROM tasker_workflow_step_transitions
        ORDER BY workflow_step_id, sort_key DESC""",
    "tasker_batch_reconciliation": """
        SELECT b.batch_id, b.batch_uuid, b.state, b.batch_size, b.partial_results_received,
            b.final_completion_received, b.reconciliation_status, count(d.id) AS discrepancies
        FROM tasker_step_execution_batches b
        LEFT JOIN tasker_step_execution_batch_discrepancies d USING (batch_id)
        GROUP BY b.batch_id""",
    "tasker_orphaned_batches": """
        SELECT b.batch_id, b.batch_uuid, b.state, b.session_id, r.status AS session_status,
            r.last_heartbeat_at, b.created_at,
            count(s.workflow_step_id) FILTER (WHERE s.state = 'in_progress'
                AND s.current_batch_id = b.batch_id) AS steps_in_progress
        FROM tasker_step_execution_batches b
        LEFT JOIN tasker_worker_registrations r USING (registration_id)
        LEFT JOIN tasker_step_execution_batch_steps bs USING (batch_id)
        LEFT JOIN tasker_workflow_steps s USING (workflow_step_id)
        WHERE b.state IN ('created', 'published', 'in_progress')
          AND coalesce(r.status, 'disconnected') = 'disconnected'
        GROUP BY b.batch_id, r.status, r.last_heartbeat_at""",
    "tasker_worker_load": """
        SELECT w.worker_id, w.worker_name, r.session_id, r.status, r.credit, r.current_load,
            r.last_heartbeat_at
        FROM tasker_workers w JOIN tasker_worker_registrations r USING (worker_id)
        WHERE r.status <> 'disconnected'""",
}


def upgrade() -> None:
    op.execute(ENSURE_PARTITIONS)
    for table, _ in PARTITIONED:
        op.execute(f"SELECT tasker_ensure_partitions('{table}', now(), 4)")
    op.execute(REFUSE_CHANGES)
    op.execute(GUARD)
    op.execute(READY_TASKS)
    op.execute(EXECUTION_CONTEXT)
    for name, body in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {body}")


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
    op.execute("DROP FUNCTION get_task_execution_context(bigint, timestamptz)")
    op.execute("DROP FUNCTION get_ready_tasks_for_processing(integer, timestamptz)")
    op.execute("DROP TRIGGER tasker_append_only ON tasker_step_execution_batch_received_results")
    op.execute("DROP FUNCTION tasker_refuse_changes()")
    op.execute("DROP FUNCTION tasker_ensure_partitions(text, timestamptz, integer)")
