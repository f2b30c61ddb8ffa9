"""What steps came to, told to the breakers of their workers; what these let through is dispatch's.

A step that its worker reports counts by itself; whatever is lost or out of time in one tick counts
once for a worker and handler, for it is one misfortune. What people took away from a worker, and
what never began, counts nothing.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

import orjson

from tasker_zmq.domain import breaker as rules
from tasker_zmq.domain.breaker import CLOSED, Breaker, Pair
from tasker_zmq.domain.ids import StepId
from tasker_zmq.domain.results import DeadLetterReason
from tasker_zmq.domain.states import StepEvent
from tasker_zmq.pipeline import administration
from tasker_zmq.pipeline.accounts import BatchView
from tasker_zmq.pipeline.breakers import Breakers
from tasker_zmq.pipeline.findings import Findings
from tasker_zmq.pipeline.inbox import Received
from tasker_zmq.pipeline.state import CoreState, Session
from tasker_zmq.pipeline.turn import Sign, Turn
from tasker_zmq.store import breakers as store
from tasker_zmq.store.steps import Move
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

ERROR_CHARACTERS_MAX: Final = 300
_FAILURES: Final = (StepEvent.POSTPONE, StepEvent.FAIL, StepEvent.DOUBT)


def note(turn: Turn, findings: Findings) -> None:
    """Keep what moves say of workers until `settle`; nothing while all goes well."""
    healthy = not (turn.state.breakers or turn.signs)
    if healthy and all(each.event is StepEvent.COMPLETE for each in findings.moves):
        return
    if turn.tuning.breaker.failures:
        turn.signs.extend(list(_signs(turn, findings)))


def _signs(turn: Turn, findings: Findings) -> Iterator[Sign]:
    batches = {each.batch_id: each for each in findings.views.batches.values()}
    permanent = {
        each.step_id
        for each in findings.dead_letters
        if each.reason == DeadLetterReason.PERMANENT_ERROR
    }
    silent = {each.pair for each in turn.signs if not each.told}
    unsound = {each.pair for each in turn.signs}
    for move in findings.moves:
        step = findings.views.steps.get(StepId(move.step_id))
        failed = None if step is None else _failed(move, permanent=move.step_id in permanent)
        if step is None or failed is None:
            continue
        session = _session(turn, batches.get(step.current_batch_id))
        if session is None or (not findings.told and _excused(turn, session)):
            continue
        definition = turn.state.step_definition(
            turn.connection, step.named_task_id, step.named_step_id
        )
        pair = Pair(session.worker_name, definition.handler_class)
        if not failed and pair not in unsound and turn.state.breakers.find(pair) is None:
            continue  # as it should be
        if findings.told or pair not in silent:
            yield Sign(pair, failed, findings.told, move.error)
        unsound.add(pair)
        if not findings.told:
            silent.add(pair)


def _failed(move: Move, *, permanent: bool) -> bool | None:
    """Whether it failed or answered; None: neither can be said."""
    if move.event is StepEvent.COMPLETE or permanent:
        return False
    return True if move.event in _FAILURES or move.lost else None


def _session(turn: Turn, batch: BatchView | None) -> Session | None:
    """Whose batch it is; of workers without a name nothing is counted, for they may be several."""
    if batch is None:
        return None
    id_ = batch.session_id
    session = turn.begun.get(id_) or turn.state.sessions.get(id_)
    return None if session is None or session.nameless or not session.worker_name else session


def _excused(turn: Turn, session: Session) -> bool:
    return session.draining or session.session_id in turn.barred


def settle(turn: Turn, inbox: Sequence[Received]) -> Breakers:
    """Open and close breakers by what was noted; those that dispatch is to ask."""
    due = turn.tuning.breaker.failures and administration.may_have_changed(turn, inbox)
    if not (turn.signs or due):
        return turn.state.breakers
    before, after = turn.state.breakers, turn.state.breakers.copy()
    for sign in turn.signs:
        after.put(sign.pair, _judged(turn, after.find(sign.pair) or CLOSED, sign))
    changed = {
        pair: after.find(pair) or CLOSED
        for pair in dict.fromkeys(each.pair for each in turn.signs)
        if _next_try(after, pair) != _next_try(before, pair)
    }
    if changed:
        store.write(turn.connection, changed, core_id=turn.state.core_id, now=turn.now)
        turn.changes.then(partial(_tell, changed))
    if due:
        after.take_over(store.load(turn.connection, now=turn.now), forgiven=turn.managed)
    turn.changes.then(partial(_keep, turn.state, after))
    return after


def _judged(turn: Turn, breaker: Breaker, sign: Sign) -> Breaker:
    if not sign.failed:
        return rules.answered()
    error = _text(sign.error)
    return rules.failed(breaker, turn.tuning.breaker, now=turn.now, error=error)


def _next_try(breakers: Breakers, pair: Pair) -> datetime | None:
    return (breakers.find(pair) or CLOSED).next_try_at


def _text(error: str | None) -> str:
    """`error_type: message` of a step's error, as PostgreSQL can keep it."""
    told = orjson.loads(error) if error else {}
    words = (str(each) for each in (told.get("error_type"), told.get("message")) if each)
    return ": ".join(words)[:ERROR_CHARACTERS_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}")


def _keep(state: CoreState, breakers: Breakers) -> None:
    state.breakers = breakers


def _tell(changed: Mapping[Pair, Breaker]) -> None:
    for pair, breaker in changed.items():
        worker, handler = pair
        if breaker.next_try_at is None:
            log(logger, logging.INFO, Event.BREAKER_CLOSED, worker=worker, handler=handler)
            continue
        log(
            logger,
            logging.WARNING,
            Event.BREAKER_OPENED,
            worker=worker,
            handler=handler,
            failures=breaker.failures,
            cool_off_seconds=breaker.cool_off_seconds,
            error=breaker.last_error,
        )
