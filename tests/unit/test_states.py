"""The arrows: what the three machines allow."""

from typing import Any

import pytest

from tasker_zmq.domain.states import (
    BATCH,
    OPEN_BATCH_STATES,
    OPEN_TASK_STATES,
    STEP,
    TASK,
    BatchState,
    IllegalTransitionError,
    Machine,
    StepEvent,
    StepState,
    TaskState,
)

MACHINES: tuple[Machine[Any, Any], ...] = (STEP, TASK, BATCH)
by_noun = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.noun)


@by_noun
def test_every_state_is_reached_from_the_first_one(machine: Machine[Any, Any]) -> None:
    reached = {machine.initial}
    for _ in machine.states:
        reached |= {after for (before, _), after in machine.arrows.items() if before in reached}
    assert reached == set(machine.states)


@by_noun
def test_from_every_state_a_terminal_one_can_be_reached(machine: Machine[Any, Any]) -> None:
    ending = set(machine.terminal)
    for _ in machine.states:
        ending |= {before for (before, _), after in machine.arrows.items() if after in ending}
    assert ending == set(machine.states)


@by_noun
def test_every_pair_of_state_and_event_either_has_an_arrow_or_is_refused(
    machine: Machine[Any, Any],
) -> None:
    events = {event for _, event in machine.arrows}
    for state in machine.states:
        for event in events:
            if event in machine.allowed(state):
                assert machine.after(state, event) in machine.states
            else:
                with pytest.raises(IllegalTransitionError):
                    machine.after(state, event)


def test_a_refusal_says_what_was_wanted_what_was_found_and_what_is_allowed() -> None:
    with pytest.raises(IllegalTransitionError) as refusal:
        STEP.after(StepState.IN_DOUBT, StepEvent.FAIL)
    assert str(refusal.value) == (
        "step cannot 'fail' from 'in_doubt'; "
        "allowed here: 'complete', 'retry', 'cancel', 'resolve_manually'"
    )


def test_what_is_done_stays_done() -> None:
    assert STEP.terminal == {StepState.COMPLETE, StepState.CANCELLED, StepState.RESOLVED_MANUALLY}
    assert TASK.terminal == {TaskState.COMPLETE, TaskState.CANCELLED, TaskState.RESOLVED_MANUALLY}
    assert BATCH.terminal == set(BatchState) - set(OPEN_BATCH_STATES)


def test_only_a_person_brings_a_failed_step_or_task_back() -> None:
    assert set(STEP.allowed(StepState.ERROR)) == {
        StepEvent.RETRY,
        StepEvent.CANCEL,
        StepEvent.RESOLVE_MANUALLY,
    }
    assert TaskState.ERROR not in OPEN_TASK_STATES


def test_a_step_that_may_be_running_is_never_sent_again_by_itself() -> None:
    leaving = {event for state, event in STEP.arrows if state is StepState.IN_DOUBT}
    by_hand = {StepEvent.RETRY, StepEvent.CANCEL, StepEvent.RESOLVE_MANUALLY}
    assert leaving == by_hand | {StepEvent.COMPLETE}  # and by its own late success


def test_every_step_runs_only_after_it_was_pending() -> None:
    starts = [
        before for (before, _), after in STEP.arrows.items() if after is StepState.IN_PROGRESS
    ]
    assert starts == [StepState.PENDING]
