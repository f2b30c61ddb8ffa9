"""One page of what a person decided: the steps that it moves, and the answer that it gets.

One tick moves at most CONTROLLED_MAX steps for all such commands together, so that results and
heartbeats are never far behind; a command that finds no room left is told to ask again.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import orjson

from tasker_zmq.commands import envelope
from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.replies import Asked, CommandRefusedError
from tasker_zmq.domain import control as rules
from tasker_zmq.domain.control import ControlledStep, StepAction
from tasker_zmq.domain.ids import StepId, TaskId
from tasker_zmq.domain.states import StepState, TaskState
from tasker_zmq.pipeline import advance
from tasker_zmq.pipeline.state import CoreState
from tasker_zmq.protocol.control import (
    CONTROLLED_MAX,
    NULL,
    Controlled,
    ControlSteps,
    ControlTasks,
    DecideDeadLetters,
    Refusal,
)
from tasker_zmq.store import control as store
from tasker_zmq.store import steps as step_store
from tasker_zmq.store.control import Closing, StepMoves
from tasker_zmq.store.statements import Row
from tasker_zmq.store.steps import Moved
from tasker_zmq.store.tables import DeadLetterStatus
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

WHY_CHARACTERS_MAX: Final = 1_000
BY_CHARACTERS_MAX: Final = 200
RESULTS_BYTES_MAX: Final = 16_384  # a page of 1,000 steps may be given them at once
_CLOSED_BY: Final = {
    StepAction.RETRY: DeadLetterStatus.REQUEUED,
    StepAction.RESOLVE: DeadLetterStatus.RESOLVED,
    StepAction.CANCEL: DeadLetterStatus.DISCARDED,
}


@dataclass
class Deed:
    """Who decided, why and in which command; and what one page of it came to."""

    sitting: Sitting
    by: str
    why: str
    command_id: str
    changed: list[int] = field(default_factory=list)
    already: list[int] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    @property
    def metadata(self) -> str:
        """What is kept with every transition, as JSON text."""
        told = {"by": self.by, "why": self.why, "command_id": self.command_id}
        return orjson.dumps(told).decode()

    def refuse(self, id_: int, message: str, *, code: str = "refused") -> None:
        self.refused.append(Refusal(id=id_, code=code, message=message))

    def answer(self, *, after_id: int | None, up_to_id: int | None = None) -> Controlled:
        return Controlled(
            changed=tuple(sorted(self.changed)),
            already=tuple(sorted(self.already)),
            refused=tuple(sorted(self.refused, key=lambda refusal: refusal.id)),
            after_id=after_id,
            up_to_id=up_to_id,
        )

    def load_steps(self, step_ids: Sequence[int]) -> dict[int, tuple[ControlledStep, bool]]:
        """The steps that there are, each with whether this very command moved it before."""
        if not step_ids:
            return {}
        loaded = store.load_steps(
            self.sitting.connection,
            step_ids,
            core_id=self.sitting.desk.state.core_id,
            command_id=self.command_id,
            now=self.sitting.now,
        )
        return {row.step_id: (_step(row), row.repeated) for row in loaded}

    def move(
        self, action: StepAction, step_ids: Sequence[StepId], *, results: bytes = NULL
    ) -> list[int]:
        """Move steps that allow it, see to their tasks; returns the dead letters it closed."""
        if not step_ids:
            return []
        turn, core_id = self.sitting.turn, self.sitting.desk.state.core_id
        moves = StepMoves(
            step_ids=step_ids,
            from_states=rules.states_before(action),
            to_state=rules.STEP_TARGETS[action],
            event=rules.STEP_EVENTS[action],
            results=bytes(results).decode(),
            metadata=self.metadata,
        )
        after = store.move_steps(turn.connection, moves, core_id=core_id, now=turn.now)
        turn.contents.drop(after.finished)
        turn.changes.then(partial(turn.state.viable.discard, step_ids))
        advance.end_blocked_tasks(turn, Moved(blocked=after.blocked))
        self.send_what_is_ready(after.task_ids, taken=after.taken)
        return self.close_letters(_CLOSED_BY[action], step_ids=step_ids)

    def close_letters(
        self,
        status: DeadLetterStatus,
        *,
        step_ids: Sequence[int] = (),
        dead_letter_ids: Sequence[int] = (),
    ) -> list[int]:
        """Close what is open of these; returns the letters' ids."""
        return store.close_letters(
            self.sitting.connection,
            Closing(status=status, by=self.by, why=self.why),
            step_ids=step_ids,
            dead_letter_ids=dead_letter_ids,
            now=self.sitting.now,
        )

    def send_what_is_ready(self, task_ids: Sequence[TaskId], *, taken: bool) -> None:
        """Hand viable steps of the tasks to this tick's dispatch; a sweep finds what is left."""
        if not task_ids:
            return
        sitting, state = self.sitting, self.sitting.desk.state
        ready = store.viable_of(
            sitting.connection,
            task_ids,
            core_id=state.core_id,
            now=sitting.now,
            at_most=CONTROLLED_MAX,
        )
        sitting.answers.ready.extend(ready)
        if len(ready) == CONTROLLED_MAX:
            sitting.changes.then(partial(_sweep_again, state))
        if taken:
            upcoming = step_store.next_retry(sitting.connection, core_id=state.core_id)
            sitting.changes.then(partial(state.set_next_retry, upcoming))

    def note(self, what: str) -> None:
        """Log who did what, after the commit."""
        if not self.changed:
            return
        fields = {
            "what": what,
            "count": len(self.changed),
            "first": min(self.changed),
            "by": self.by,
            "why": self.why,
        }
        self.sitting.changes.then(
            partial(log, logger, logging.INFO, Event.DECIDED_BY_A_PERSON, **fields)
        )


def begin(
    sitting: Sitting, asked: Asked, request: ControlSteps | ControlTasks | DecideDeadLetters
) -> Deed:
    """Who and why, as the request has it; raises CommandRefusedError when that is not said."""
    by = request.by or envelope.initiator(asked) or ""
    if not request.why.strip() or not by.strip():
        missing = "by" if request.why.strip() else "why"
        raise CommandRefusedError(
            "invalid", f"'{missing}' is empty; say who decides, and why: it is kept"
        )
    if len(request.why) > WHY_CHARACTERS_MAX or len(by) > BY_CHARACTERS_MAX:
        raise CommandRefusedError(
            "invalid",
            f"'why' has {len(request.why)} characters and 'by' {len(by)}; wanted are at most "
            f"{WHY_CHARACTERS_MAX} and {BY_CHARACTERS_MAX}",
        )
    if not isinstance(request, ControlTasks) and len(bytes(request.results)) > RESULTS_BYTES_MAX:
        raise CommandRefusedError(
            "invalid",
            f"the results are {len(bytes(request.results))} bytes; at most {RESULTS_BYTES_MAX} can "
            "be given: give a reference to what is larger",
        )
    return Deed(sitting, by=by, why=request.why, command_id=asked.command.command_id)


def check_ids(ids: Sequence[int], noun: str) -> list[int]:
    """The ids in order, each once; raises CommandRefusedError for none and for too many."""
    if not 1 <= len(ids) <= CONTROLLED_MAX:
        raise CommandRefusedError(
            "invalid", f"{len(ids)} {noun} are named; wanted: 1 to {CONTROLLED_MAX}"
        )
    return sorted(set(ids))


def following(named: Sequence[int], page: Sequence[int], after_id: int) -> int | None:
    """Behind which id the next page begins; None behind the last one."""
    if len(page) == len(named):
        return None
    return page[-1] if page else after_id


def _step(row: Row) -> ControlledStep:
    return ControlledStep(
        step_id=row.step_id,
        name=row.name,
        state=StepState(row.state),
        unfinished_parents=row.unfinished_parents,
        task_id=row.task_id,
        task_state=TaskState(row.task_state),
        elsewhere=row.elsewhere,
    )


def _sweep_again(state: CoreState) -> None:
    state.viable.overflowed = True
