"""What was lost and what was done twice: submissions, steps' own words and records compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tasker_zmq.cli.chaotic.records import Records, StepRecord
from tasker_zmq.cli.chaotic.shapes import Shape
from tasker_zmq.cli.chaotic.submitting import Submitted
from tasker_zmq.cli.chaotic.witness import Run, WitnessAccount

SHOWN_MAX: Final = 20
IN_DOUBT: Final = "in_doubt"
LOSSES: Final = "max_losses_exceeded"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`violations` are sentences; `executed_twice` is legal but for steps that must run once."""

    tasks: int
    steps: int
    lost: Sequence[str]
    applied_twice: Sequence[str]
    executed_twice: int
    in_doubt: int
    given_up: int
    violations: Sequence[str]

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.applied_twice or self.violations)


def judged(
    submitted: Sequence[Submitted],
    account: WitnessAccount,
    records: Records,
    *,
    noticed: Sequence[str],
) -> Verdict:
    """The verdict; `noticed` are violations that were seen while it ran."""
    steps = records.steps
    return Verdict(
        tasks=len(submitted),
        steps=len(steps),
        lost=list(_lost(submitted, account, records)),
        applied_twice=list(_applied_twice(account, records)),
        executed_twice=sum(1 for _ in _executed_twice(submitted, account)),
        in_doubt=sum(each.state == IN_DOUBT for each in steps),
        given_up=sum(_is_given_up(each) for each in steps),
        violations=[
            *noticed,
            *(f"{each.invariant}: {each.subject}: {each.detail}" for each in records.violated),
            *_strangers(submitted, records),
            *_careless(submitted, account),
        ],
    )


def _lost(
    submitted: Sequence[Submitted], account: WitnessAccount, records: Records
) -> Iterator[str]:
    """Tasks that were acknowledged and steps of theirs that did not come to the end they have.

    A task with a step in doubt or given up after too many losses did not vanish: it is told of.
    """
    succeeded = {each.run_id for each in account.runs if each.succeeded}
    states = {each.task_id: each.state for each in records.tasks}
    for task in submitted:
        found = records.steps_by_task.get(task.task_id, {})
        if not found:
            yield f"task {task.task_id} ({task.shape.name}) was acknowledged, and is not there"
            continue
        if any(each.state == IN_DOUBT or _is_given_up(each) for each in found.values()):
            continue
        if states[task.task_id] != task.shape.state:
            yield (
                f"task {task.task_id} ({task.shape.name}) is {states[task.task_id]}, "
                f"wanted {task.shape.state}"
            )
        yield from _steps_lost(task.shape, found, succeeded)


def _steps_lost(
    shape: Shape, found: Mapping[str, StepRecord], succeeded: set[str]
) -> Iterator[str]:
    for name in shape.runs:
        step = found[name]
        wanted = "error" if name in shape.fails else "complete"
        if step.state != wanted:
            yield f"step {step.step_id} ({name}) is {step.state}, wanted {wanted}"
        elif wanted == "complete" and step.run not in succeeded:
            yield f"step {step.step_id} ({name}) has a result that no run of it gave"


def _applied_twice(account: WitnessAccount, records: Records) -> Iterator[str]:
    """Steps of which two outcomes had effect: by the ledger, or by what children were given."""
    handed_on = account.handed_on
    for step in records.steps:
        given = handed_on.get((step.task_id, step.name), frozenset())
        tokens = given | ({step.run} if step.run else set())
        if len(tokens) > 1:
            yield f"step {step.step_id} ({step.name}) had {len(tokens)} results that counted"
        elif step.successes_applied > 1:
            yield f"step {step.step_id} ({step.name}) succeeded {step.successes_applied} times"


def _executed_twice(
    submitted: Sequence[Submitted], account: WitnessAccount
) -> Iterator[tuple[Submitted, Sequence[Run]]]:
    """Steps that ran more often than their shape wants."""
    by_task = {each.task_id: each for each in submitted}
    for runs in account.by_step.values():
        task = by_task.get(runs[0].task_id)
        if task is not None and len(runs) > task.shape.runs.get(runs[0].step_name, 0):
            yield task, runs


def _careless(submitted: Sequence[Submitted], account: WitnessAccount) -> Iterator[str]:
    """Steps that must not run twice, and did; and ones that ran before a parent had ended."""
    for task, runs in _executed_twice(submitted, account):
        if runs[0].step_name in task.shape.once:
            yield f"step {runs[0].step_id} must not run twice, and ran {len(runs)} times"
        if runs[0].step_name in task.shape.unreached:
            yield f"step {runs[0].step_id} ran, and its parent had failed"
    for runs in account.by_step.values():
        if len({each.idempotency_key for each in runs}) > 1:
            yield f"step {runs[0].step_id} was given several idempotency keys"


def _strangers(submitted: Sequence[Submitted], records: Records) -> Iterator[str]:
    """One identity makes one task, and tasks are only those that were submitted."""
    known = {each.task_id: each.identity for each in submitted}
    for task in records.tasks:
        if known.get(task.task_id) != task.identity:
            yield f"task {task.task_id} of {task.identity} is one that nobody was told of"


def _is_given_up(step: StepRecord) -> bool:
    return LOSSES in (step.dead_letters or "")
