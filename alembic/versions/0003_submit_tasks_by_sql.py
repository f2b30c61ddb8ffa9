"""Tasks by SQL: `SELECT tasker_submit_task(...)`, in a transaction of whoever asks."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WAITING = sa.text("refused_at IS NULL")

# SECURITY DEFINER: whoever may call it needs no right to any table.
SUBMIT_TASK = """
CREATE FUNCTION tasker_submit_task(
    workflow text, context jsonb DEFAULT '{}', identity text DEFAULT NULL,
    priority integer DEFAULT 0, tags text[] DEFAULT '{}', scheduled_for timestamptz DEFAULT NULL,
    reason text DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    named CONSTANT text := split_part(workflow, '@', 1);
    wanted_version CONSTANT text := nullif(split_part(workflow, '@', 2), '');
    wanted_identity CONSTANT text := identity;
    definition bigint;
    wanted bigint;
    found bigint;
BEGIN
    SELECT t.named_task_id INTO definition
    FROM tasker_task_namespaces n JOIN tasker_named_tasks t USING (task_namespace_id)
    WHERE n.name = split_part(named, '/', 1) AND t.name = substr(named, strpos(named, '/') + 1)
      AND (wanted_version IS NULL OR t.version = wanted_version)
    ORDER BY t.named_task_id DESC LIMIT 1;
    IF definition IS NULL THEN
        RAISE EXCEPTION 'no workflow ''%'' is published', workflow
            USING ERRCODE = 'no_data_found',
                HINT = 'wanted: namespace/name[@version]; see tasker-zmq workflows list';
    END IF;
    IF jsonb_typeof(tasker_submit_task.context) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'the context must be a JSON object, not %',
            coalesce(jsonb_typeof(tasker_submit_task.context), 'null')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF length(wanted_identity) > 500 OR wanted_identity = '' THEN
        RAISE EXCEPTION 'the identity has % characters; wanted: 1 to 500', length(wanted_identity)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF abs(tasker_submit_task.priority) > 1000000 THEN
        RAISE EXCEPTION 'the priority is %; wanted: -1000000 to 1000000',
            tasker_submit_task.priority USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF scheduled_for > now() + interval '100 years' OR scheduled_for < now() - interval '100 years'
    THEN
        RAISE EXCEPTION 'scheduled_for is %; wanted: a moment of this century', scheduled_for
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOOP
        INSERT INTO tasker_submissions
            (task_id, named_task_id, context, identity, priority, tags, initiator, reason, due_at)
        VALUES (nextval(pg_get_serial_sequence('tasker_tasks', 'task_id')), definition,
            tasker_submit_task.context, wanted_identity, tasker_submit_task.priority,
            coalesce(tasker_submit_task.tags, '{}'), session_user, tasker_submit_task.reason,
            coalesce(tasker_submit_task.scheduled_for, '-infinity'))
        ON CONFLICT (named_task_id, identity) WHERE identity IS NOT NULL AND refused_at IS NULL
        DO NOTHING
        RETURNING task_id INTO wanted;
        -- Looked for behind the insertion: a core that has just made it a task is seen here.
        SELECT t.task_id INTO found FROM tasker_tasks t
        WHERE t.named_task_id = definition AND t.identity = wanted_identity;
        IF found IS NOT NULL THEN
            DELETE FROM tasker_submissions s WHERE s.task_id = wanted;
            RETURN found;
        END IF;
        IF wanted IS NOT NULL THEN
            PERFORM pg_notify('tasker_submissions', '');
            RETURN wanted;
        END IF;
        SELECT s.task_id INTO found FROM tasker_submissions s
        WHERE s.named_task_id = definition AND s.identity = wanted_identity
          AND s.refused_at IS NULL;
        IF found IS NOT NULL THEN
            RETURN found;
        END IF;  -- taken or refused in this very moment: once more
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "tasker_submissions",
        sa.Column("submission_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column(
            "task_id",
            sa.BigInteger(),
            nullable=False,
            comment="What the task will be called; its caller knows it already.",
        ),
        sa.Column("named_task_id", sa.BigInteger(), nullable=False),
        sa.Column("context", postgresql.JSONB(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("initiator", sa.Text(), nullable=False, comment="The database role that asked."),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Not to be made a task before; -infinity, whatever clocks say: at once.",
        ),
        sa.Column(
            "submitted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["named_task_id"],
            ["tasker_named_tasks.named_task_id"],
            name=op.f("fk_tasker_submissions_named_task_id_tasker_named_tasks"),
        ),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_tasker_submissions")),
        comment="Tasks asked for by tasker_submit_task and not made yet, or refused.",
    )
    op.create_index(
        "ix_tasker_submissions_due",
        "tasker_submissions",
        ["due_at", "submission_id"],
        postgresql_where=WAITING,
    )
    op.create_index(
        "uq_tasker_submissions_identity",
        "tasker_submissions",
        ["named_task_id", "identity"],
        unique=True,
        postgresql_where=sa.text("identity IS NOT NULL AND refused_at IS NULL"),
    )
    op.execute(SUBMIT_TASK)


def downgrade() -> None:
    op.execute(
        "DROP FUNCTION tasker_submit_task(text, jsonb, text, integer, text[], timestamptz, text)"
    )
    op.drop_table("tasker_submissions")
