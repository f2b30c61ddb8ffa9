"""DecideDeadLetters: requeue, resolve or discard, by ids or by filter, a page at a time."""

from collections.abc import Sequence

from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.deed import Deed, begin, check_ids, following
from tasker_zmq.commands.moments import moment
from tasker_zmq.commands.replies import Asked, CommandRefusedError
from tasker_zmq.domain import control as rules
from tasker_zmq.domain.control import LetterAction
from tasker_zmq.domain.ids import StepId
from tasker_zmq.protocol.control import (
    CONTROLLED_MAX,
    Controlled,
    DeadLetterFilter,
    DecideDeadLetters,
)
from tasker_zmq.store import control as store
from tasker_zmq.store.reads.dead_letters import LetterFilter
from tasker_zmq.store.statements import Row
from tasker_zmq.store.tables import DeadLetterStatus


def decide_dead_letters(sitting: Sitting, asked: Asked, request: DecideDeadLetters) -> Controlled:
    """Decide one page: of the letters that are named, or of those that match and are open."""
    deed = begin(sitting, asked, request)
    if bool(request.dead_letter_ids) == (request.filter is not None):
        raise CommandRefusedError(
            "invalid",
            "wanted either dead_letter_ids or a filter",
            hint="an empty filter matches every dead letter that is open",
        )
    if request.filter is None:
        return _decide_named(deed, request)
    return _decide_matching(deed, request, request.filter)


def _decide_named(deed: Deed, request: DecideDeadLetters) -> Controlled:
    ids = check_ids(request.dead_letter_ids, "dead letters")
    named = [each for each in ids if each > request.after_id]
    page = named[: deed.sitting.allowance.take(len(named))]
    letters = store.load_letters(deed.sitting.connection, page)
    for missing in sorted(set(page) - {row.dead_letter_id for row in letters}):
        deed.refuse(missing, f"no dead letter has the id {missing}", code="not_found")
    _decide(deed, request, letters)
    return deed.answer(after_id=following(named, page, request.after_id))


def _decide_matching(
    deed: Deed, request: DecideDeadLetters, wanted: DeadLetterFilter
) -> Controlled:
    """A step that fails again meanwhile makes a letter above `up_to`: the pages come to an end."""
    connection, allowance = deed.sitting.connection, deed.sitting.allowance
    up_to = request.up_to_id
    if up_to is None:
        up_to = store.newest_letter(connection)
    room = allowance.take(CONTROLLED_MAX)
    if not room:
        return deed.answer(after_id=request.after_id, up_to_id=up_to)
    letters = store.load_matching_letters(
        connection, _filter(wanted), after=request.after_id, up_to=up_to, at_most=room
    )
    allowance.give_back(room - len(letters))
    _decide(deed, request, letters)
    more = letters[-1].dead_letter_id if len(letters) == room else None
    return deed.answer(after_id=more, up_to_id=up_to)


def _filter(wanted: DeadLetterFilter) -> LetterFilter:
    return LetterFilter(
        reason=wanted.reason,
        task_id=wanted.task_id,
        namespace=wanted.namespace,
        workflow=wanted.workflow,
        version=wanted.version,
        step=wanted.step,
        fingerprint=wanted.fingerprint,
        status=wanted.status or DeadLetterStatus.OPEN.value,
        since=None if wanted.since is None else moment(wanted.since, name="since"),
    )


def _decide(deed: Deed, request: DecideDeadLetters, letters: Sequence[Row]) -> None:
    undecided = [row for row in letters if row.status == DeadLetterStatus.OPEN]
    deed.already += [row.dead_letter_id for row in letters if row.status != DeadLetterStatus.OPEN]
    action = rules.STEP_ACTIONS.get(request.action)
    if action is not None:
        steps = _allowed(deed, request.action, undecided)
        deed.changed += deed.move(action, steps, results=request.results)
    elif undecided:
        ids = [row.dead_letter_id for row in undecided]
        deed.changed += deed.close_letters(DeadLetterStatus.DISCARDED, dead_letter_ids=ids)
    deed.note(f"{request.action} dead letters")


def _allowed(deed: Deed, action: LetterAction, letters: Sequence[Row]) -> list[StepId]:
    """The steps of letters that can be decided so; each once, however many letters it has."""
    step_ids = {row.workflow_step_id for row in letters if row.workflow_step_id is not None}
    facts = deed.load_steps(sorted(step_ids))
    allowed: dict[StepId, None] = {}
    for row in letters:
        letter, found = f"dead letter {row.dead_letter_id}", facts.get(row.workflow_step_id)
        if found is None:
            deed.refuse(row.dead_letter_id, f"{letter} is of no step that is there; discard it")
            continue
        step, repeated = found
        refused = rules.refuse_letter(action, step)
        if repeated:
            deed.already.append(row.dead_letter_id)
        elif refused is not None:
            deed.refuse(row.dead_letter_id, f"{letter}: {refused}")
        else:
            allowed[StepId(step.step_id)] = None
    return list(allowed)
