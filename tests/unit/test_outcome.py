"""When a task with failures is over."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_zmq.domain.outcome import Standing, task_event
from tasker_zmq.domain.states import TaskEvent

COUNTS = st.integers(0, 3)


def standing(**counts: Any) -> Standing:
    return Standing(**{"running": 0, "waiting": 0, "ready": 0, "failed": 1, **counts})


def test_a_task_ends_when_a_step_failed_and_nothing_else_can_move() -> None:
    assert task_event(standing()) is TaskEvent.FAIL


@pytest.mark.parametrize("kind", ["running", "waiting", "ready", "in_doubt"])
def test_a_task_is_not_over_while_one_step_may_still_become_anything(kind: str) -> None:
    assert task_event(standing(**{kind: 1})) is None


def test_a_task_without_failures_does_not_fail() -> None:
    assert task_event(standing(failed=0)) is None


@given(st.builds(Standing, running=COUNTS, waiting=COUNTS, ready=COUNTS, failed=COUNTS))
def test_another_failure_never_revives_a_task(found: Standing) -> None:
    more = Standing(
        running=found.running,
        waiting=found.waiting,
        ready=found.ready,
        failed=found.failed + 1,
        in_doubt=found.in_doubt,
    )
    assert task_event(found) is None or task_event(more) is task_event(found)
