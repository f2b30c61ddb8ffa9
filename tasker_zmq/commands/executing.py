"""ExecuteBatch: viable steps go to a worker that somebody names, the others are refused."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.deed import check_ids
from tasker_zmq.commands.managing import core_address, session_of
from tasker_zmq.commands.replies import LATER, Asked, CommandRefusedError, success
from tasker_zmq.domain.directing import Why, obstacle
from tasker_zmq.domain.ids import StepId
from tasker_zmq.domain.waiting import listed
from tasker_zmq.pipeline import advance
from tasker_zmq.pipeline.directing import Directed, Settled
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.state import Session
from tasker_zmq.pipeline.viable import Entry
from tasker_zmq.protocol.control import Refusal
from tasker_zmq.protocol.executing import BatchesSent, ExecuteBatch, SentBatch
from tasker_zmq.store import directing as store
from tasker_zmq.store.directing import Found

SENT: Final = "BatchesSent"


@dataclass
class _Wish:
    """One command: for whom, what of it may be sent, what not and why."""

    sitting: Sitting
    asked: Asked
    session: Session
    names: dict[StepId, str] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)

    def refuse(self, step_id: int, message: str, *, code: str = Why.REFUSED) -> None:
        self.refused.append(Refusal(id=step_id, code=code, message=message))

    def answer(self, settled: Settled) -> BatchesSent:
        for step_id, reason in settled.refused.items():
            self.refuse(step_id, f"{self.names[step_id]}: {reason}")
        return BatchesSent(
            worker_name=self.session.worker_name,
            session_id=self.session.session_id,
            core_id=self.sitting.desk.state.core_id,
            batches=tuple(
                SentBatch(batch_id=batch_id, step_ids=tuple(step_ids))
                for batch_id, step_ids in settled.batches
            ),
            refused=tuple(sorted(self.refused, key=lambda refusal: refusal.id)),
        )

    def letter(self, settled: Settled) -> Letter:
        """The answer, once dispatch has done what it could."""
        made = success(self.asked, SENT, self.answer(settled), by=self.sitting.answerer)
        return self.sitting.keep(self.asked, made)


def execute_batch(sitting: Sitting, asked: Asked, request: ExecuteBatch) -> object:
    """Have this tick's dispatch send the steps to the worker's newest session; it answers."""
    if sitting.desk.state.draining:
        raise CommandRefusedError("busy", "this daemon is stopping", hint="ask a core that goes on")
    step_ids = [StepId(each) for each in check_ids(request.step_ids, "steps")]
    wish = _Wish(sitting, asked, session_of(sitting, request.worker_name))
    found = store.load(sitting.connection, step_ids, now=sitting.now)
    for missing in sorted(set(step_ids) - {each.ready.step_id for each in found}):
        wish.refuse(missing, f"no step has the id {missing}", code="not_found")
    entries = _fitting(wish, _sendable(wish, found))
    if not entries:
        return wish.answer(Settled([], {}))
    sitting.awaited.add(asked.command.command_id)
    sitting.turn.directed.append(
        Directed(session_id=wish.session.session_id, entries=tuple(entries), settle=wish.letter)
    )
    return LATER


def _sendable(wish: _Wish, found: Sequence[Found]) -> list[Found]:
    """Those that this core may send now; raises when another core has all of them."""
    sitting, owners = wish.sitting, set[str]()
    sendable: list[Found] = []
    for each in found:
        wish.names[each.ready.step_id] = str(each.step)
        found_obstacle = obstacle(each.step, core_id=sitting.desk.state.core_id, now=sitting.now)
        if found_obstacle is None:
            sendable.append(each)
            continue
        wish.refuse(each.ready.step_id, found_obstacle.message, code=found_obstacle.why)
        if found_obstacle.why is Why.ELSEWHERE and each.step.core_id:
            owners.add(each.step.core_id)
    all_theirs = not sendable and all(each.code == Why.ELSEWHERE for each in wish.refused)
    if all_theirs and len(owners) == 1:
        refuse_elsewhere(sitting, owners.pop(), wish.refused[0].message)
    return sendable


def refuse_elsewhere(sitting: Sitting, owner: str, message: str) -> NoReturn:
    """Send whoever asks to the core that has it; `message` says what it has."""
    there = core_address(sitting, owner)
    raise CommandRefusedError(
        "elsewhere",
        message,
        hint=f"send it to {there.commands}" if there else f"ask core '{owner}'",
        core=there,
    )


def _fitting(wish: _Wish, sendable: Sequence[Found]) -> list[Entry]:
    """Those that the worker runs, and that nobody has pinned to others."""
    state, session = wish.sitting.desk.state, wish.session
    worker = session.worker_name
    entries: list[Entry] = []
    for entry in advance.entries(wish.sitting.turn, [each.ready for each in sendable]):
        ready, definition = entry
        kind = state.viable.kind_of(ready.task_id, definition)
        pinned_to = state.sessions.administration.pinned_to(kind, definition.named_task)
        name = wish.names[ready.step_id]
        if not session.can_run(definition.handler_class):
            handler = definition.handler_class
            wish.refuse(ready.step_id, f"{name}: worker '{worker}' has no handler '{handler}'")
        elif pinned_to is not None and worker not in pinned_to:
            wish.refuse(ready.step_id, f"{name} is pinned to {listed(sorted(pinned_to))}")
        elif pinned_to is None and not session.declared.allows(definition.named_task):
            workflow = definition.named_task.full_name
            wish.refuse(ready.step_id, f"{name}: worker '{worker}' does not take {workflow}")
        else:
            entries.append(entry)
    return entries
