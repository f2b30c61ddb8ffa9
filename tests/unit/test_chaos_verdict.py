"""The verdict of `tasker-zmq chaos` sees what is planted: losses, doubled effects, second runs."""

import random
from dataclasses import replace

import pytest

from tasker_zmq.cli.chaotic.faults import OF_THE_SERVER, Fault, FaultKind, drawn_faults
from tasker_zmq.cli.chaotic.injection import Happening
from tasker_zmq.cli.chaotic.records import Records, StepRecord, TaskRecord
from tasker_zmq.cli.chaotic.recovery import recoveries
from tasker_zmq.cli.chaotic.shapes import SHAPES
from tasker_zmq.cli.chaotic.submitting import Submitted
from tasker_zmq.cli.chaotic.verdict import Verdict, judged
from tasker_zmq.cli.chaotic.witness import Run, WitnessAccount

CAREFUL = SHAPES["careful"]
NAMES = tuple(CAREFUL.runs)
STARTED_AT = 1_000.0


def run_of(step_id: int, *, run_id: str = "", process_id: int = 1) -> Run:
    number = step_id - 1
    given = {NAMES[number - 1]: f"run-{number}"} if number else {}
    return Run(
        run_id=run_id or f"run-{step_id}",
        task_id=1,
        step_id=step_id,
        step_name=NAMES[number],
        attempt=1,
        idempotency_key=f"key-{step_id}",
        process_id=process_id,
        started_at=STARTED_AT + step_id,
        given=given,
        ended_at=STARTED_AT + step_id + 0.5,
        failed=False,
    )


SUBMITTED = [Submitted(task_id=1, identity="chaos-1-1", shape=CAREFUL)]
RUNS = tuple(run_of(step_id) for step_id in (1, 2, 3))
STEPS = tuple(
    StepRecord(
        step_id=number,
        task_id=1,
        name=name,
        state="complete",
        losses=0,
        run=f"run-{number}",
        successes_applied=1,
        dead_letters=None,
    )
    for number, name in enumerate(NAMES, start=1)
)
RECORDS = Records(
    tasks=[TaskRecord(task_id=1, identity="chaos-1-1", state="complete")],
    steps=STEPS,
    applied_at=[],
    violated=[],
)


def judge(runs: tuple[Run, ...] = RUNS, records: Records = RECORDS) -> Verdict:
    return judged(SUBMITTED, WitnessAccount(runs=runs), records, noticed=[])


def with_step(number: int, **changes: object) -> Records:
    steps = list(STEPS)
    steps[number - 1] = replace(steps[number - 1], **changes)  # type: ignore[arg-type]
    return replace(RECORDS, steps=steps)


def test_what_went_well_is_good() -> None:
    verdict = judge()
    assert verdict.is_good
    assert (verdict.tasks, verdict.steps, verdict.executed_twice) == (1, 3, 0)


def test_an_acknowledged_task_that_is_not_there_is_lost() -> None:
    assert judge(records=replace(RECORDS, tasks=[], steps=[])).lost


@pytest.mark.parametrize("state", ["pending", "in_progress", "waiting_for_retry", "error"])
def test_a_step_that_did_not_come_to_its_end_is_lost(state: str) -> None:
    assert judge(records=with_step(2, state=state)).lost


def test_a_result_that_no_run_gave_is_a_loss() -> None:
    assert judge(records=with_step(2, run="run-nobody")).lost


def test_a_step_in_doubt_and_one_given_up_are_told_of_and_not_lost() -> None:
    doubted = judge(records=with_step(2, state="in_doubt", run=None))
    assert (list(doubted.lost), doubted.in_doubt) == ([], 1)
    given_up = judge(records=with_step(2, state="error", dead_letters="max_losses_exceeded"))
    assert (list(given_up.lost), given_up.given_up) == ([], 1)


def test_two_successes_in_the_ledger_are_one_too_many() -> None:
    assert judge(records=with_step(1, successes_applied=2)).applied_twice


def test_a_child_that_was_given_another_result_than_the_recorded_one_shows_two_effects() -> None:
    other = replace(RUNS[2], run_id="run-other", given={NAMES[1]: "run-other"})
    assert judge(runs=(*RUNS, other)).applied_twice


def test_a_second_run_is_counted_and_a_violation_only_where_there_must_be_one() -> None:
    plain = judge(runs=(*RUNS, run_of(1, run_id="again")))
    assert (plain.executed_twice, list(plain.violations)) == (1, [])
    careless = judge(runs=(*RUNS, run_of(2, run_id="again")))
    assert careless.executed_twice == 1
    assert "must not run twice" in careless.violations[0]


def test_a_task_that_nobody_submitted_is_a_violation() -> None:
    stranger = TaskRecord(task_id=2, identity="chaos-1-1", state="complete")
    assert judge(records=replace(RECORDS, tasks=[*RECORDS.tasks, stranger])).violations


def test_what_was_noticed_on_the_way_is_a_violation() -> None:
    verdict = judged(SUBMITTED, WitnessAccount(runs=RUNS), RECORDS, noticed=["the daemon ended"])
    assert not verdict.is_good


def test_one_seed_means_the_same_faults_and_every_kind_comes_before_any_comes_again() -> None:
    def drawn(seed: int) -> tuple[Fault, ...]:
        return drawn_faults(
            random.Random(seed),
            seconds=120.0,
            workers=3,
            dead_seconds=3.0,
            kinds=list(FaultKind),
        )

    assert drawn(1) == drawn(1) != drawn(2)
    first = [each.kind for each in drawn(1)][: len(FaultKind)]
    assert set(first) == set(FaultKind)
    assert set(FaultKind) > OF_THE_SERVER


def test_recovery_from_a_worker_s_death_ends_with_its_step_s_end_elsewhere() -> None:
    cut = replace(RUNS[0], ended_at=None)
    again = replace(run_of(1, run_id="again", process_id=2), started_at=1_003.0, ended_at=1_003.5)
    fault = Fault(kind=FaultKind.WORKER_KILLED, at_seconds=1.0, lasts_seconds=1.0, worker=1)
    killed = Happening(fault=fault, began_at=1_001.5, process_id=1, healed_at=1_002.5)
    found = recoveries([killed], WitnessAccount(runs=(cut, again)), [])
    assert found[FaultKind.WORKER_KILLED].max_seconds == pytest.approx(2.0)
    paused = replace(fault, kind=FaultKind.DAEMON_PAUSED, worker=0)
    other = Happening(fault=paused, began_at=1_002.0, process_id=3, healed_at=1_002.2)
    assert recoveries([killed, other], WitnessAccount(runs=(cut, again)), []) == {}
