"""Each invariant holds after an honest history, and what breaks it is found."""

import os
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, text

from tasker_zmq.store.connection import ConnectionLimits, create
from tasker_zmq.store.reads.invariants import INVARIANTS, LIMIT, check_invariants
from tasker_zmq.testing import ManualClock
from tests.databases import database
from tests.store.seeding import Story, diamond, told


@pytest.fixture(scope="module")
def shared(server_url: str, template_database: str) -> Iterator[Engine]:
    """One database for all tests here: each of them rolls back what it told."""
    name = f"tasker_tests_{os.getpid()}_reads_invariants"
    with database(server_url, name, template=template_database) as url:
        engine = create(url, purpose="tests", limits=ConnectionLimits())
        yield engine
        engine.dispose()


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


BREAKERS = {
    "I1 held": "UPDATE tasker_workflow_steps SET next_attempt_at = NULL "
    "WHERE state = 'waiting_for_retry'",
    "I3 one outcome": "INSERT INTO tasker_step_execution_batch_received_results "
    "(received_at, batch_id, batch_step_id, message_type, core_id, status, verdict, processed_at) "
    "SELECT received_at, batch_id, batch_step_id, message_type, core_id, 'failed', verdict, "
    "processed_at FROM tasker_step_execution_batch_received_results "
    "WHERE status = 'completed' LIMIT 1",
    "I3 finish time": "UPDATE tasker_workflow_steps SET finished_at = NULL "
    "WHERE state = 'complete'",
    "I4 current batch": "INSERT INTO tasker_step_execution_batch_received_results "
    "(received_at, batch_id, batch_step_id, message_type, core_id, status, verdict, processed_at) "
    "SELECT received_at, batch_id + 1, batch_step_id, message_type, core_id, status, verdict, "
    "processed_at FROM tasker_step_execution_batch_received_results "
    "WHERE status = 'completed' LIMIT 1",
    "I6 parents first": "UPDATE tasker_workflow_steps SET state = 'pending' "
    "WHERE name = 'validate'",
    "I7 attempts": "UPDATE tasker_workflow_steps SET attempts = 4 WHERE name = 'reserve'",
    "I10 append-only": "DROP TRIGGER tasker_append_only "
    "ON tasker_step_execution_batch_received_results",
    "I10 counters": "UPDATE tasker_step_execution_batches SET partial_results_received = 0",
    "I12 step arrows": "UPDATE tasker_workflow_step_transitions SET event_name = 'lose' "
    "WHERE to_state = 'complete'",
    "I12 step history": "DELETE FROM tasker_workflow_step_transitions WHERE sort_key = 2",
    "I12 task arrows": "UPDATE tasker_task_transitions SET from_state = 'pending' "
    "WHERE to_state = 'complete'",
    "I12 task history": "UPDATE tasker_tasks SET transitions = transitions + 1",
    "I12 batch arrows": "UPDATE tasker_step_execution_batch_transitions SET event_name = 'orphan' "
    "WHERE to_state = 'completed'",
    "I12 batch history": "UPDATE tasker_step_execution_batches SET state = 'orphaned' "
    "WHERE state = 'completed'",
    "I12 most recent": "UPDATE tasker_step_execution_batch_transitions SET most_recent = false",
    "unfinished parents": "UPDATE tasker_workflow_steps SET unfinished_parents = 1 "
    "WHERE name = 'validate'",
    "task counts": "UPDATE tasker_tasks SET unfinished_leaves = 3 WHERE state = 'in_progress'",
    "complete tasks": "UPDATE tasker_tasks SET state = 'complete' WHERE state = 'in_progress'",
}


def test_every_invariant_is_broken_by_something_here() -> None:
    assert set(BREAKERS) == {invariant.name for invariant in INVARIANTS}


@pytest.mark.parametrize("name", BREAKERS)
def test_what_breaks_an_invariant_is_found(story: Story, name: str) -> None:
    story.connection.execute(text(BREAKERS[name]))
    assert name in broken(story.connection)


def test_a_success_in_a_batch_that_was_overtaken_is_found(story: Story) -> None:
    story.connection.execute(
        text("UPDATE tasker_workflow_steps SET current_batch_id = 9999 WHERE state = 'complete'")
    )
    assert "I4 current batch" in broken(story.connection)


def test_a_step_that_must_not_be_retried_and_was_is_found(story: Story) -> None:
    story.connection.execute(
        text("UPDATE tasker_workflow_steps SET attempts = 2 WHERE name = 'charge'")
    )
    assert "I7 attempts" in broken(story.connection)


def test_no_invariant_is_told_of_more_than_a_few_times(story: Story) -> None:
    named = story.publish(diamond("other_order"))
    for _ in range(LIMIT + 5):
        story.task(named)
    story.connection.execute(text("UPDATE tasker_tasks SET transitions = 9"))
    found = [each for each in check_invariants(story.connection) if "task" in each.invariant]
    assert len(found) == LIMIT
    assert found[0].subject.startswith("task ")
    assert "after 9 transitions" in found[0].detail
