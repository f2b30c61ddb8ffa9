"""Why a task waits, in a paragraph."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasker_zmq.domain.administration import Administration, Pin, WorkerMode
from tasker_zmq.domain.explanation import StepStanding, TaskStanding, explain, span
from tasker_zmq.domain.kinds import TaskName
from tasker_zmq.domain.states import StepState, TaskState
from tasker_zmq.domain.supported import Association, Declared
from tasker_zmq.domain.waiting import LiveSession

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def step(
    name: str, state: StepState = StepState.PENDING, *parents: str, **other: Any
) -> StepStanding:
    facts: dict[str, Any] = {
        "handler_class": f"orders.{name}",
        "attempts": 0,
        "tries": 3,
        "worker": None,
        "worker_gone": False,
        "started_at": None,
        "next_attempt_at": None,
        "error": "",
    }
    return StepStanding(name=name, state=state, parents=parents, **{**facts, **other})


def task(*steps: StepStanding, **other: Any) -> TaskStanding:
    facts: dict[str, Any] = {
        "state": TaskState.IN_PROGRESS,
        "paused": False,
        "core_id": "core-1",
        "core_alive": True,
        "requested_at": NOW - timedelta(seconds=90),
        "completed_at": None,
        "scheduled_for": None,
        "sessions": (),
    }
    return TaskStanding(steps=steps, **{**facts, **other})


def session(
    *handlers: str, worker: str = "anna", has_room: bool = True, **more: Any
) -> LiveSession:
    return LiveSession(worker=worker, handlers=frozenset(handlers), has_room=has_room, **more)


def said(*steps: StepStanding, **other: Any) -> str:
    return explain(task(*steps, **other), now=NOW)


def test_a_step_in_progress_is_with_its_worker() -> None:
    running = step("charge", StepState.IN_PROGRESS, worker="anna", attempts=2)
    assert "charge is in progress on worker anna (attempt 2 of 3)." in said(running)
    since = step("charge", StepState.IN_PROGRESS, started_at=NOW - timedelta(seconds=12))
    assert "in progress on a worker for 12 s" in said(since)
    gone = step("charge", StepState.IN_PROGRESS, worker="anna", worker_gone=True)
    assert "that worker is gone" in said(gone)


def test_a_wait_for_a_retry_says_until_when_and_what_went_wrong() -> None:
    waiting = step(
        "charge",
        StepState.WAITING_FOR_RETRY,
        attempts=1,
        next_attempt_at=NOW + timedelta(seconds=30),
        error="Timeout:\n no  answer",
    )
    assert said(waiting) == "charge waits 30 s for attempt 2 of 3 (Timeout: no answer)."
    due = step("charge", StepState.WAITING_FOR_RETRY, attempts=1, next_attempt_at=NOW)
    assert said(due) == "charge is due for attempt 2 of 3."


def test_without_a_worker_it_says_so() -> None:
    assert "no worker is connected: start one with" in said(step("charge"))


def test_a_handler_that_nobody_runs_is_named_with_the_nearest() -> None:
    text = said(step("charge"), sessions=(session("orders.charges", worker="bob"),))
    assert "runs handler 'orders.charge' (the nearest is 'orders.charges' on bob)" in text
    assert "nearest" not in said(step("charge"), sessions=(session("mail.send"),))


def test_busy_workers_are_named() -> None:
    text = said(step("charge"), sessions=(session("orders.charge", has_room=False),))
    assert text == "charge is ready, but every worker that runs 'orders.charge' is busy (anna)."


def test_what_keeps_each_worker_from_a_step_is_said() -> None:
    runs = "orders.charge"
    sessions = (
        session(runs, worker="anna", mode=WorkerMode.DRAINING),
        session(runs, worker="berta", deaf=True, core_id="core-1"),
        session(runs, worker="carla", core_id="core-2", not_reached_by=frozenset({"core-1"})),
        session(runs, worker="dora", core_id="core-2", not_reached_by=frozenset({"core-2"})),
    )
    assert said(step("charge"), sessions=sessions) == (
        "charge is ready, but four workers know it: anna is draining, berta is deaf, "
        "carla is not reachable from core-1, dora is not connected to core-1."
    )
    alone = session(runs, silent=True)
    assert said(step("charge"), sessions=(alone,)) == (
        "charge is ready, but one worker knows it: anna is silent."
    )
    both = [session(runs, worker=name, mode=WorkerMode.DISABLED) for name in ("anna", "berta")]
    assert "two workers know it: anna and berta are disabled." in said(
        step("charge"), sessions=tuple(both)
    )


def test_open_breakers_are_said_with_the_next_try() -> None:
    runs = "orders.charge"
    soon, later = NOW + timedelta(seconds=5), NOW + timedelta(seconds=80)
    anna = session(runs, worker="anna", next_tries={runs: later})
    assert said(step("charge"), sessions=(anna,)) == (
        "charge is ready, but one worker knows it: its breaker is open, next try 12:01:20 UTC."
    )
    berta = session(runs, worker="berta", next_tries={runs: soon})
    assert said(step("charge"), sessions=(anna, berta)) == (
        "charge is ready, but two workers know it: both breakers are open, next try 12:00:05 UTC."
    )
    carla = session(runs, worker="carla", next_tries={runs: None})
    assert said(step("charge"), sessions=(anna, carla)) == (
        "charge is ready, but two workers know it: anna is behind an open breaker (next try "
        "12:01:20 UTC), carla is behind a half open breaker (one step at a time)."
    )
    other = session(runs, worker="anna", next_tries={"orders.ship": later})
    assert "about to be sent" in said(step("charge"), sessions=(other,))


def test_a_worker_with_a_link_to_the_owner_counts_by_that_one() -> None:
    sessions = (
        session("orders.charge", core_id="core-1"),
        session("orders.charge", core_id="core-2", has_room=False),
    )
    assert "about to be sent" in said(step("charge"), sessions=sessions)
    assert "about to be sent" in said(step("charge"), sessions=sessions[::-1])


ORDERS = TaskName("orders", "fulfil", "1.0.0")


def test_workers_that_take_other_workflows_only_are_named() -> None:
    other = Declared(tasks={ORDERS._replace(version="2.0.0"): Association()}, exclusive=True)
    text = said(
        step("charge"), sessions=(session("orders.charge", declared=other),), named_task=ORDERS
    )
    assert "the workers that run 'orders.charge' take other workflows (anna)." in text


def test_a_pin_is_said_with_what_its_worker_lacks() -> None:
    pin = Pin(worker_name="berta", namespace="orders", task_name="fulfil")
    decided = {"named_task": ORDERS, "administration": Administration(pins=(pin,))}
    anna = session("orders.charge")
    text = said(step("charge"), sessions=(anna,), **decided)
    assert text == "charge is ready, but pinned to berta: berta is not connected."
    berta = session("other", worker="berta")
    text = said(step("charge"), sessions=(anna, berta), **decided)
    assert text.endswith("berta is without a handler 'orders.charge'.")
    berta = session("orders.charge", worker="berta")
    assert "about to be sent" in said(step("charge"), sessions=(anna, berta), **decided)


def test_a_step_that_can_go_is_about_to() -> None:
    sessions = (session("orders.charge", has_room=False), session("orders.charge", worker="bob"))
    assert said(step("charge"), sessions=sessions) == "charge is ready and about to be sent."


def test_a_step_waits_for_its_parents_by_name() -> None:
    running = step("reserve", StepState.IN_PROGRESS, worker="anna", attempts=1)
    text = said(
        running,
        step("charge", StepState.COMPLETE),
        step("ship", StepState.PENDING, "reserve", "charge"),
    )
    assert text.endswith("ship waits for reserve.")


def test_what_lies_behind_a_failure_cannot_run() -> None:
    failed = step("charge", StepState.ERROR, attempts=1)
    behind = step("ship", StepState.PENDING, "charge")
    farther = step("thank", StepState.PENDING, "ship")
    running = step("reserve", StepState.IN_PROGRESS, attempts=1)
    text = said(failed, running, behind, farther)
    assert text.endswith("ship and thank cannot run, for a step before it failed.")


def test_a_pause_a_schedule_and_a_missing_daemon_are_said() -> None:
    assert "It is paused" in said(step("charge"), paused=True)
    later = NOW + timedelta(hours=2)
    assert "scheduled to begin in 2 h" in said(step("charge"), scheduled_for=later)
    away = said(step("charge"), core_alive=False)
    assert away.startswith("Its daemon 'core-1' does not run: start one with `tasker-zmq daemon`.")
    assert "No daemon has it" in said(step("charge"), core_alive=False, core_id=None)


def test_a_doubt_asks_for_a_person() -> None:
    assert "a person has to decide" in said(step("charge", StepState.IN_DOUBT))


def test_many_steps_are_counted_not_named() -> None:
    running = [step(f"s{n}", StepState.IN_PROGRESS, attempts=1) for n in range(9)]
    assert "and 5 more." in said(*running)
    parents = tuple(f"s{n}" for n in range(9))
    assert said(*running, step("join", StepState.PENDING, *parents)).endswith("s3 and 5 more.")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (TaskState.COMPLETE, "It completed after 1 min."),
        (TaskState.CANCELLED, "It was cancelled after 1 min."),
        (TaskState.RESOLVED_MANUALLY, "It was resolved manually after 1 min."),
    ],
)
def test_an_end_is_told_with_how_long_it_took(state: TaskState, text: str) -> None:
    assert said(step("charge", StepState.COMPLETE), state=state, completed_at=NOW) == text


def test_an_end_in_error_names_the_step_and_what_never_ran() -> None:
    failed = step("charge", StepState.ERROR, attempts=1, error="card declined")
    text = said(failed, step("ship", StepState.PENDING, "charge"), state=TaskState.ERROR)
    assert text == (
        "It ended in error: charge failed at attempt 1 of 3 (card declined). ship will not run."
    )


def test_spans_are_said_in_their_largest_unit() -> None:
    said_so = [span(seconds) for seconds in (0, 0.0804, 1, 59.9, 61, 7_200, 200_000)]
    assert said_so == ["0 ms", "80 ms", "1 s", "59 s", "1 min", "2 h", "2 d"]
