"""Two workers share much work: each step runs once, and nobody is sent more than he can hold."""

import pytest

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import (
    WORKLOAD,
    Witness,
    assert_invariants,
    assert_one_outcome_each,
    await_no_open_tasks,
    counted,
    results,
    submit_many,
)
from tests.processes.running import RunningDaemon

pytestmark = pytest.mark.slow

CHAINS = 200
LEAVES = 100
STEPS = 4 * CHAINS + LEAVES + 2

# A batch takes up credit from its creation until the result of the step is recorded.
HELD_AT_MOST = """
WITH moments AS (
    SELECT b.session_id, b.created_at AS at, 1 AS taken
    FROM tasker_step_execution_batches b
    JOIN tasker_step_execution_batch_steps bs USING (batch_id)
    UNION ALL
    SELECT b.session_id, r.processed_at, -1
    FROM tasker_step_execution_batches b
    JOIN tasker_step_execution_batch_received_results r
        ON r.batch_id = b.batch_id AND r.verdict = 'applied' AND r.status = 'completed'
), held AS (
    SELECT session_id, sum(taken) OVER (
        PARTITION BY session_id ORDER BY at, taken ROWS UNBOUNDED PRECEDING) AS steps
    FROM moments
)
SELECT held.session_id, max(held.steps) AS held_at_most, g.credit,
    CAST(w.metadata ->> 'max_burst_steps' AS integer) AS burst
FROM held JOIN tasker_worker_registrations g USING (session_id)
JOIN tasker_workers w USING (worker_id)
GROUP BY held.session_id, g.credit, w.metadata"""


def assert_bursts_were_kept(running: RunningDaemon) -> None:
    found = running.rows(HELD_AT_MOST)
    assert len(found) == 2  # both had work
    assert all(each["held_at_most"] <= each["burst"] for each in found), found


def test_two_workers_run_each_step_of_many_tasks_once_and_hold_no_more_than_a_burst(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon()
    for number in (1, 2):
        worker(
            running,
            WORKLOAD,
            name=f"worker-{number}",
            arguments=("--concurrency", "4"),
            variables=witness.variables,
            sessions=number,
        )
    fan = submit_many(running, "tests/fan@1.0.0", [{}])[0]
    submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(CHAINS)])
    await_no_open_tasks(running)
    assert counted(running, "tasker_tasks") == {"complete": CHAINS + 1}
    assert results(running.await_task(fan))["gather"] == LEAVES
    assert sum(witness.runs().values()) == len(witness.runs()) == STEPS
    assert len({each.process_id for each in witness.testimonies}) == 2
    assert_bursts_were_kept(running)
    assert_one_outcome_each(running)
    assert_invariants(running)
