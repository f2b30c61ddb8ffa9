"""How long commands took, and how many there were, from their audit."""

from typing import Final

from sqlalchemy import Connection

from tasker_zmq.store.reads.analytics.window import Found, Window, found

_AUDITED: Final = """
WITH audited AS MATERIALIZED (
    SELECT a.command_type, a.direction, a.outcome, a.core_id, a.worker_name, a.created_at,
        a.execution_time_ms, a.messages
    FROM tasker_worker_command_audit a
    WHERE a.created_at >= CAST(:since AS timestamptz)
      AND a.created_at < CAST(:until AS timestamptz)
    ORDER BY a.created_at DESC LIMIT :rows_max
),
read AS (SELECT count(*) AS rows_read FROM audited)"""
_OF_TYPE: Final = "(CAST(:command_type AS text) IS NULL OR a.command_type = :command_type)"

COMMAND_LATENCY: Final = f"""{_AUDITED},
timed AS (
    SELECT a.command_type, a.direction, count(*) AS count,
        CAST(percentile_cont(ARRAY[0.5, 0.95, 0.99, 1.0])
            WITHIN GROUP (ORDER BY a.execution_time_ms) AS float8[]) AS ms
    FROM audited a WHERE a.execution_time_ms IS NOT NULL AND {_OF_TYPE}
    GROUP BY a.command_type, a.direction
)
SELECT command_type, direction, count, ms[1] AS ms_p50, ms[2] AS ms_p95, ms[3] AS ms_p99,
    ms[4] AS ms_max, read.rows_read
FROM timed CROSS JOIN read ORDER BY ms[2] DESC, command_type, direction LIMIT :limit
"""  # noqa: S608 - made of this module's own words

AUDIT_SUMMARY: Final = f"""{_AUDITED}
SELECT a.command_type, a.direction, coalesce(a.outcome, '') AS outcome,
    CAST(sum(a.messages) AS bigint) AS count,
    count(DISTINCT a.core_id) AS cores, count(DISTINCT a.worker_name) AS workers,
    max(a.created_at) AS last_at, max(read.rows_read) AS rows_read
FROM audited a CROSS JOIN read WHERE {_OF_TYPE}
GROUP BY a.command_type, a.direction, a.outcome
ORDER BY count DESC, a.command_type, a.direction, outcome LIMIT :limit
"""  # noqa: S608 - made of this module's own words


def command_latency(connection: Connection, window: Window) -> Found:
    """Per type and direction: milliseconds."""
    return found(connection, COMMAND_LATENCY, window)


def audit_summary(connection: Connection, window: Window) -> Found:
    """Per type, direction and outcome: how many."""
    return found(connection, AUDIT_SUMMARY, window)
