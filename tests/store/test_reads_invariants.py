"""Each invariant holds after an honest history, and what breaks it is found."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from tasker_zmq.store.reads.invariants import INVARIANTS, LIMIT, check_invariants
from tasker_zmq.testing import ManualClock
from tests.store.seeding import Story, diamond, told


@pytest.fixture
def connection(shared: Engine) -> Iterator[Connection]:
    with shared.connect() as open_connection:
        yield open_connection


@pytest.fixture
def story(connection: Connection, manual_clock: ManualClock) -> Story:
    return told(connection, manual_clock).story


def broken(connection: Connection) -> set[str]:
    return {violation.invariant for violation in check_invariants(connection)}


def test_an_honest_history_breaks_nothing(story: Story) -> None:
    assert check_invariants(story.connection) == []


def test_an_empty_database_breaks_nothing(connection: Connection) -> None:
    assert check_invariants(connection) == []


STEPS, TASKS = "UPDATE tasker_workflow_steps SET", "UPDATE tasker_tasks SET"
BATCHES = "UPDATE tasker_step_execution_batches SET"
HISTORY = "UPDATE tasker_{}_transitions SET"
AGAIN = """
INSERT INTO tasker_step_execution_batch_received_results (received_at, batch_id, batch_step_id,
    message_type, core_id, status, verdict, processed_at)
SELECT received_at, {batch_id}, {place}, message_type, core_id, {status}, {verdict}, processed_at
FROM tasker_step_execution_batch_received_results r
WHERE r.status = 'completed' AND r.verdict = 'applied' ORDER BY id LIMIT 1"""


def again(**other: str) -> str:
    """The first success of the ledger once more, with something else about it; values in SQL."""
    same = {
        "batch_id": "batch_id",
        "place": "batch_step_id",
        "status": "status",
        "verdict": "verdict",
    }
    return AGAIN.format(**same | other)


ELSEWHERE = (
    "(SELECT max(bs.id) FROM tasker_step_execution_batch_steps bs WHERE bs.batch_id <> r.batch_id)"
)
CLAIMED_TWICE = """
INSERT INTO tasker_step_execution_batch_steps (batch_id, workflow_step_id, sequence_order, attempt,
    expected_handler_class, created_at)
SELECT (SELECT max(batch_id) FROM tasker_step_execution_batches), workflow_step_id, 9, 0, 'x',
    created_at
FROM tasker_step_execution_batch_steps ORDER BY id LIMIT 1"""
SUCCESS_TWICE = again(
    batch_id="(SELECT max(batch_id) FROM tasker_step_execution_batches)",
    place="(SELECT max(id) FROM tasker_step_execution_batch_steps)",
)
SENT_TWICE = """
INSERT INTO tasker_workflow_step_transitions (workflow_step_id, sort_key, from_state, to_state,
    event_name, created_at)
SELECT workflow_step_id, 9, 'pending', 'in_progress', 'start', created_at
FROM tasker_workflow_steps WHERE name = 'charge' AND state = 'in_progress'"""
BREAKERS = {
    "I1 held": [
        f"{STEPS} next_attempt_at = NULL WHERE state = 'waiting_for_retry'",
        f"{STEPS} current_batch_id = 9999 WHERE state = 'in_progress'",
        f"{BATCHES} state = 'orphaned' WHERE state = 'in_progress'",
    ],
    "I2 recorded": [
        f"{STEPS} state = 'complete' WHERE name = 'ship'",
        f"{STEPS} current_batch_id = 9999 WHERE state = 'complete'",
    ],
    "I3 one outcome": [again(status="'failed'")],
    "I3 one success": [f"{CLAIMED_TWICE}; {SUCCESS_TWICE}"],
    "I3 finish time": [f"{STEPS} finished_at = NULL WHERE state = 'complete'"],
    "I4 current batch": [
        again(batch_id="batch_id + 1"),
        again(place="NULL"),
        again(place=ELSEWHERE, verdict="'stale'"),
        f"{STEPS} current_batch_id = 9999 WHERE state = 'complete'",
    ],
    "I6 parents first": [f"{STEPS} state = 'pending' WHERE name = 'validate'"],
    "I7 attempts": [
        f"{STEPS} attempts = 4 WHERE name = 'reserve'",
        f"{STEPS} attempts = 2 WHERE name = 'charge'",
        f"{STEPS} attempts = -1",
    ],
    "I7 once": [SENT_TWICE],
    "I7 losses": [
        f"{STEPS} losses = 1 WHERE state = 'in_progress'",
        f"{STEPS} losses = 2 WHERE state = 'error'",
        f"{STEPS} losses = -1",
        f"{STEPS} attempts = 2 WHERE name = 'reserve'",
        f"{STEPS} attempts = 0 WHERE name = 'reserve'",
        f"{HISTORY.format('workflow_step')} event_name = 'lose' WHERE event_name = 'postpone'",
    ],
    "I7 dead letters": [
        "DELETE FROM tasker_dead_letters",
        "UPDATE tasker_dead_letters SET status = 'requeued'",
    ],
    "open letters": [f"{STEPS} state = 'complete' WHERE state = 'error'"],
    "I8 chosen session": [
        f"{BATCHES} session_id = 'nobody'",
        f"{BATCHES} registration_id = 9999",
    ],
    "I9 credit": ["UPDATE tasker_worker_registrations SET credit = 0"],
    "I10 append-only": [
        "DROP TRIGGER tasker_append_only ON tasker_step_execution_batch_received_results"
    ],
    "I10 counters": [
        f"{BATCHES} partial_results_received = 0",
        f"{BATCHES} final_completion_received = NOT final_completion_received",
        f"{BATCHES} completed_steps = failed_steps, failed_steps = completed_steps",
    ],
    "I10 batch size": [
        f"{BATCHES} batch_size = batch_size + 1",
        "DELETE FROM tasker_step_execution_batch_steps",
    ],
    "I10 batch state": [
        f"{BATCHES} state = 'completed' WHERE state = 'in_progress'",
        f"{BATCHES} state = 'in_progress' WHERE state = 'completed'",
        f"{BATCHES} state = 'failed' WHERE state = 'completed'",
        f"{BATCHES} state = 'partially_failed' WHERE state = 'completed'",
        f"{BATCHES} state = 'created' WHERE state = 'in_progress'",
    ],
    "I11 differences": [
        f"{BATCHES} reconciliation_status = 'consistent'",
        "DELETE FROM tasker_step_execution_batch_discrepancies",
    ],
    "I12 step arrows": [
        f"{HISTORY.format('workflow_step')} event_name = 'lose' WHERE to_state = 'complete'"
    ],
    "I12 step history": ["DELETE FROM tasker_workflow_step_transitions WHERE sort_key = 2"],
    "I12 task arrows": [
        "UPDATE tasker_task_transitions SET from_state = 'pending' WHERE to_state = 'complete'"
    ],
    "I12 task history": [f"{TASKS} transitions = transitions + 1"],
    "I12 batch arrows": [
        f"{HISTORY.format('step_execution_batch')} event_name = 'orphan' WHERE sort_key = 2"
    ],
    "I12 batch history": [f"{BATCHES} state = 'orphaned' WHERE state = 'completed'"],
    "I12 most recent": ["UPDATE tasker_step_execution_batch_transitions SET most_recent = false"],
    "I13 owners": [
        f"{TASKS} processing_core_id = 'nobody' WHERE state = 'in_progress'",
        f"{BATCHES} core_id = 'nobody' WHERE state = 'in_progress'",
    ],
    "I1 going on": [
        f"{STEPS} state = 'cancelled' WHERE state IN ('in_progress', 'waiting_for_retry')"
    ],
    "I3 end time": [
        f"{TASKS} completed_at = NULL WHERE state = 'complete'",
        f"{TASKS} completed_at = requested_at WHERE state = 'in_progress'",
    ],
    "unfinished parents": [f"{STEPS} unfinished_parents = 1 WHERE name = 'validate'"],
    "task counts": [
        f"{TASKS} unfinished_leaves = 3 WHERE state = 'in_progress'",
        f"{TASKS} failed_steps = 0",
        f"{TASKS} step_count = 9",
    ],
    "begun tasks": [f"{TASKS} state = 'pending' WHERE state = 'in_progress'"],
    "complete tasks": [f"{TASKS} state = 'complete' WHERE state = 'in_progress'"],
    "failed tasks": [f"{TASKS} state = 'error' WHERE state = 'in_progress'"],
}


def test_every_invariant_is_broken_by_something_here() -> None:
    assert set(BREAKERS) == {invariant.name for invariant in INVARIANTS}


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name, several in BREAKERS.items() for change in several]
)
def test_what_breaks_an_invariant_is_found(story: Story, name: str, change: str) -> None:
    for statement in change.split("; "):
        story.connection.execute(text(statement))
    assert name in broken(story.connection)


def test_no_invariant_is_told_of_more_than_a_few_times(story: Story) -> None:
    named = story.publish(diamond("other_order"))
    for _ in range(LIMIT + 5):
        story.task(named)
    story.connection.execute(text("UPDATE tasker_tasks SET transitions = 9"))
    found = [each for each in check_invariants(story.connection) if "task" in each.invariant]
    assert len(found) == LIMIT
    assert found[0].subject.startswith("task ")
    assert "after 9 transitions" in found[0].detail
