"""What people may do: the arrows decide, and a refusal says what was found and what is possible."""

from datetime import UTC, datetime

import pytest

from tasker_zmq.domain.control import (
    STEP_EVENTS,
    STEP_TARGETS,
    ControlledStep,
    LetterAction,
    StepAction,
    TaskAction,
    refuse_letter,
    refuse_step,
    refuse_task,
    states_before,
    step_actions,
)
from tasker_zmq.domain.losses import Start, decide_loss
from tasker_zmq.domain.results import Outcome, ResultStatus, StepFacts, Verdict, decide
from tasker_zmq.domain.states import OPEN_TASK_STATES, STEP, StepEvent, StepState, TaskState
from tasker_zmq.domain.template import Backoff

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def a_step(
    state: StepState,
    *,
    task_state: TaskState = TaskState.IN_PROGRESS,
    unfinished_parents: int = 0,
    elsewhere: str | None = None,
) -> ControlledStep:
    return ControlledStep(
        step_id=5,
        name="charge",
        state=state,
        unfinished_parents=unfinished_parents,
        task_id=7,
        task_state=task_state,
        elsewhere=elsewhere,
    )


@pytest.mark.parametrize("state", list(StepState))
@pytest.mark.parametrize("action", list(StepAction))
def test_a_step_that_does_not_run_allows_what_its_arrows_allow(
    state: StepState, action: StepAction
) -> None:
    has_arrow = STEP_EVENTS[action] in STEP.allowed(state)
    allowed = has_arrow and state is not StepState.IN_PROGRESS
    assert (refuse_step(action, a_step(state)) is None) is allowed
    assert (state in states_before(action)) is allowed
    if has_arrow:
        assert STEP.after(state, STEP_EVENTS[action]) is STEP_TARGETS[action]


@pytest.mark.parametrize("state", list(StepState))
def test_a_refusal_names_the_state_and_what_is_possible_there(state: StepState) -> None:
    for action in set(StepAction) - set(step_actions(state)):
        said = refuse_step(action, a_step(state))
        assert said is not None
        assert f"step 5 (charge) is {state}" in said
        assert all(each in said for each in step_actions(state))


@pytest.mark.parametrize("task_state", list(TaskState))
def test_steps_of_ended_tasks_are_left_alone_but_for_failed_ones(task_state: TaskState) -> None:
    said = refuse_step(StepAction.RETRY, a_step(StepState.ERROR, task_state=task_state))
    assert (said is None) is (task_state in (*OPEN_TASK_STATES, TaskState.ERROR))


def test_a_step_is_not_resolved_before_its_parents() -> None:
    waiting = a_step(StepState.PENDING, unfinished_parents=2)
    assert "waits for 2 steps" in (refuse_step(StepAction.RESOLVE, waiting) or "")
    assert refuse_step(StepAction.CANCEL, waiting) is None


def test_what_another_daemon_has_in_hand_is_asked_of_that_one() -> None:
    theirs = a_step(StepState.ERROR, elsewhere="core-2")
    assert "ask that daemon" in (refuse_step(StepAction.RETRY, theirs) or "")
    for action in TaskAction:
        said = refuse_task(action, 7, TaskState.IN_PROGRESS, elsewhere="core-2")
        assert (said is None) is (action in {TaskAction.CANCEL, TaskAction.PAUSE})


@pytest.mark.parametrize("state", list(StepState))
def test_a_letter_is_decided_only_while_its_step_failed_or_is_in_doubt(state: StepState) -> None:
    for action in (LetterAction.REQUEUE, LetterAction.RESOLVE):
        allowed = refuse_letter(action, a_step(state)) is None
        assert allowed is (state in {StepState.ERROR, StepState.IN_DOUBT})


@pytest.mark.parametrize(
    ("action", "states"),
    [
        (TaskAction.CANCEL, {TaskState.PENDING, TaskState.IN_PROGRESS, TaskState.ERROR}),
        (TaskAction.PAUSE, {TaskState.PENDING, TaskState.IN_PROGRESS}),
        (TaskAction.RESUME, {TaskState.PENDING, TaskState.IN_PROGRESS}),
        (TaskAction.RETRY, {TaskState.PENDING, TaskState.IN_PROGRESS, TaskState.ERROR}),
    ],
)
def test_each_action_is_for_tasks_in_its_states(action: TaskAction, states: set[TaskState]) -> None:
    allowed = {each for each in TaskState if refuse_task(action, 7, each, elsewhere=None) is None}
    assert allowed == states
    said = refuse_task(action, 7, TaskState.COMPLETE, elsewhere=None) or ""
    assert "task 7 is complete" in said
    assert all(state in said for state in states)


@pytest.mark.parametrize("status", [ResultStatus.COMPLETED, ResultStatus.FAILED])
@pytest.mark.parametrize("retryable", [True, False])
def test_of_a_cancelled_task_a_success_counts_and_a_failure_is_the_end(
    status: ResultStatus, *, retryable: bool
) -> None:
    facts = StepFacts(
        state=StepState.IN_PROGRESS,
        in_current_batch=True,
        attempts=1,
        retry_limit=3,
        retryable=retryable,
        backoff=Backoff(),
        task_cancelled=True,
    )
    decision = decide(Outcome(status=status), facts, now=NOW, chance=0.5, jitter=0.5)
    completed = status is ResultStatus.COMPLETED
    assert decision.event is (StepEvent.COMPLETE if completed else StepEvent.CANCEL)
    assert decision.verdict is Verdict.APPLIED
    assert decision.dead_letter_reason is None


@pytest.mark.parametrize("start", list(Start))
def test_of_a_cancelled_task_a_loss_is_the_end(start: Start) -> None:
    decision = decide_loss(start, losses=3, losses_max=3, task_cancelled=True)
    assert (decision.event, decision.dead_letter_reason) == (StepEvent.CANCEL, None)
