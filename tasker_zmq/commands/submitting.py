"""Tasks that were asked for by SQL, `SELECT tasker_submit_task(...)`: the first core makes them.

What InitializeTask checks is checked here too, but nobody waits for an answer: a refusal goes to
the log, and is kept with the submission in tasker_submissions.
"""

import logging
from collections.abc import Sequence
from typing import Final

import orjson

from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.fitting import check_fit
from tasker_zmq.commands.replies import CommandRefusedError
from tasker_zmq.domain.ids import NamedTaskId, TaskId
from tasker_zmq.pipeline import foresight
from tasker_zmq.store import steps as step_store
from tasker_zmq.store import submissions as store
from tasker_zmq.store.definitions import Definition
from tasker_zmq.store.statements import Row
from tasker_zmq.store.steps import NewTask
from tasker_zmq.telemetry.events import Event, log

TAKEN_MAX: Final = 500
SOURCE: Final = "sql"
PROBLEM_LENGTH_MAX: Final = 1_000

logger = logging.getLogger(__name__)


def take_submissions(sitting: Sitting) -> None:
    """Make tasks of what is due, all in one statement, and note when the next one is."""
    state, now = sitting.desk.state, sitting.now
    again_at = None
    if not state.draining:
        taken = store.take(sitting.connection, now=now, at_most=TAKEN_MAX)
        if taken:
            _settle(sitting, taken)
        there_are_more = len(taken) == TAKEN_MAX
        again_at = now if there_are_more else store.next_due(sitting.connection, now=now)
    sitting.changes.then(lambda: state.look_for_submissions(again_at))


def _settle(sitting: Sitting, taken: Sequence[Row]) -> None:
    problems = {row.submission_id: _problem(sitting, row) for row in taken}
    wanted = [row for row in taken if problems[row.submission_id] is None]
    made = _create(sitting, wanted) if wanted else frozenset[TaskId]()
    for row in wanted:
        if row.task_id not in made:
            problems[row.submission_id] = f"a task with the identity '{row.identity}' is there"
    refused = {key: problem for key, problem in problems.items() if problem is not None}
    for submission_id, problem in refused.items():
        told = {"submission_id": submission_id, "reason": problem}
        log(logger, logging.WARNING, Event.SUBMISSION_REFUSED, **told)
    store.settle(
        sitting.connection,
        [row.submission_id for row in taken if row.submission_id not in refused],
        refused,
        now=sitting.now,
    )


def _problem(sitting: Sitting, row: Row) -> str | None:
    definition = sitting.desk.state.definition(
        sitting.connection, NamedTaskId(row.named_task_id), digest=row.template_digest
    )
    try:
        _check(sitting, row, definition)
    except CommandRefusedError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - one poisonous row must not stop the engine
        return f"it cannot be checked: {error!r}"[:PROBLEM_LENGTH_MAX]
    return None


def _check(sitting: Sitting, row: Row, definition: Definition) -> None:
    size, bytes_max = len(row.context.encode()), sitting.desk.tuning.limits.command_bytes_max
    if size > bytes_max:
        raise CommandRefusedError("invalid", f"the context has {size} bytes, at most {bytes_max}")
    if definition.input_schema is not None:
        check_fit(orjson.loads(row.context), definition)


def _create(sitting: Sitting, wanted: Sequence[Row]) -> frozenset[TaskId]:
    tasks = [
        NewTask(
            task_id=TaskId(row.task_id),
            named_task_id=NamedTaskId(row.named_task_id),
            step_count=row.step_count,
            context=row.context,
            identity=row.identity,
            priority=row.priority,
            tags=row.tags,
            initiator=row.initiator,
            source_system=SOURCE,
            reason=row.reason,
            correlation_id=None,
        )
        for row in wanted
    ]
    state = sitting.desk.state
    step_ids = state.take_step_ids(sitting.connection, tasks)
    created = step_store.create(
        sitting.connection, tasks, step_ids, core_id=state.core_id, now=sitting.now
    )
    for task in tasks:
        if task.task_id in created:
            definition = state.definition(sitting.connection, task.named_task_id)
            course = foresight.begin(task, definition, created[task.task_id], now=sitting.now)
            sitting.turn.contents.begin(task.task_id, task.context, course)
            sitting.answers.ready += course.beginnings()
    return frozenset(created)
