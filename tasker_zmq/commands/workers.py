"""A worker's life: RegisterWorker, WorkerHeartbeat, WorkerGoodbye."""

import logging
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from tasker_zmq.commands import supporting
from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.publishing import REFUSED, publish
from tasker_zmq.commands.replies import Asked, CommandRefusedError
from tasker_zmq.domain.credit import granted_credit, whole_credit
from tasker_zmq.domain.ids import (
    BatchId,
    HandlerClass,
    RegistrationId,
    SessionId,
    StepId,
)
from tasker_zmq.pipeline import delivery, discover
from tasker_zmq.pipeline.state import CoreState, Sent, Session
from tasker_zmq.pipeline.tick import Left
from tasker_zmq.protocol import topics, versions
from tasker_zmq.protocol.commands import (
    ConfirmStart,
    HeartbeatReceived,
    RegisterWorker,
    StartConfirmed,
    WorkerGoodbye,
    WorkerHeartbeat,
    WorkerLimits,
    WorkerRegistered,
)
from tasker_zmq.store import batches as batch_store
from tasker_zmq.store import supported as supported_store
from tasker_zmq.store import workers as store
from tasker_zmq.store.reachability import TRANSPORT
from tasker_zmq.store.statements import Row
from tasker_zmq.store.workers import NewRegistration
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

WORKER_NAME = re.compile(r"[A-Za-z0-9_][\w.@:\-]{0,199}")
HANDLER_CLASS = re.compile(r"[A-Za-z_][\w.:]{0,199}")
CONCURRENCY_MAX = 10_000
BURST_MAX = 100_000
SUCCEEDED_MAX = 16  # earlier sessions of a process whose late results are still its own


def register_worker(sitting: Sitting, asked: Asked, request: RegisterWorker) -> WorkerRegistered:
    """Begin a session: publish its workflows, write it down, say where work will come from."""
    _check(request)
    version = _agree(request.protocol_versions)
    verdicts = tuple(publish(sitting, mapping) for mapping in request.templates)
    declared = supporting.declared_by(request)
    session_id = SessionId(sitting.desk.make_uuid())
    concurrency = request.metadata.max_concurrent_steps
    whole = whole_credit(concurrency, sitting.desk.tuning.credit_factor)
    credit = granted_credit(whole, request.credit)
    new = _registration(sitting, request, session_id=session_id, version=version, credit=credit)
    worker_id, registration_id = store.register(sitting.connection, new, now=sitting.now)
    supported = supported_store.associate(sitting.connection, worker_id, declared, now=sitting.now)
    session = Session(
        session_id=session_id,
        registration_id=registration_id,
        worker_name=request.worker_name,
        route=asked.route,
        handlers=_handlers(request),
        declared=declared,
        concurrency=concurrency,
        credit=credit,
        last_heard_at=sitting.now,
        confirms_start=request.confirms_start,
        burst_max=request.metadata.max_burst_steps or 0,
    )
    session.grant(credit, whole=whole)
    sitting.turn.begun[session_id] = session
    sitting.changes.then(lambda: _begin(sitting.desk.state, session, worker_id=worker_id))
    kept = _adopt(sitting, request, session, worker_id=worker_id)
    _succeed(sitting, request, session, worker_id=worker_id, kept=kept)
    refused = sum(verdict.verdict == REFUSED for verdict in verdicts)
    beat = sitting.desk.tuning.heartbeat_interval_seconds
    return WorkerRegistered(
        worker_database_id=worker_id,
        worker_name=request.worker_name,
        session_id=session_id,
        topic=topics.steps_topic(session_id).decode(),
        endpoints=sitting.desk.endpoints,
        protocol_version=version,
        core_id=sitting.desk.state.core_id,
        heartbeat_interval_seconds=beat,
        next_heartbeat_expected_at=(sitting.now + timedelta(seconds=beat)).isoformat(),
        credit=credit,
        limits=_limits(sitting),
        registered_task_count=len(supported) - refused if refused < len(supported) else 0,
        assigned_task_coverage=supporting.coverage_of(sitting, worker_id, supported),
        templates=verdicts,
        cores=sitting.desk.state.cores,
        whole_credit=whole,
    )


def _registration(
    sitting: Sitting,
    request: RegisterWorker,
    *,
    session_id: SessionId,
    version: str,
    credit: int,
) -> NewRegistration:
    return NewRegistration(
        worker_name=request.worker_name,
        session_id=session_id,
        core_id=sitting.desk.state.core_id,
        connection_type=TRANSPORT,
        connection_details=_connection_details(request),
        protocol_version=version,
        handlers=request.handlers,
        credit=credit,
        metadata=msgspec.to_builtins(request.metadata),
        declared_tasks=[msgspec.to_builtins(task) for task in request.supported_tasks],
        exclusive=request.exclusive is True,
    )


def _handlers(request: RegisterWorker) -> frozenset[HandlerClass] | None:
    """The handlers that it runs; None, whatever they are called, if it only says its tasks."""
    if request.exclusive is True and not request.handlers:
        return None
    return frozenset(HandlerClass(name) for name in request.handlers)


def _begin(state: CoreState, session: Session, *, worker_id: int) -> None:
    state.sessions[session.session_id] = session
    state.reached.note(session.worker_name, session.last_heard_at)
    log(
        logger,
        logging.INFO,
        Event.WORKER_REGISTERED,
        worker=session.worker_name,
        session_id=session.session_id,
        worker_database_id=worker_id,
        handlers=len(session.handlers or ()),
        credit=session.credit,
    )


def _check(request: RegisterWorker) -> None:
    if not WORKER_NAME.fullmatch(request.worker_name):
        raise CommandRefusedError(
            "invalid",
            f"worker_name '{request.worker_name[:50]}' is no name: letters, digits and _ . @ : - , "
            "at most 200",
        )
    for name in request.handlers:
        if not HANDLER_CLASS.fullmatch(name):
            raise CommandRefusedError(
                "invalid",
                f"handler '{name[:50]}' is no name: letters, digits and _ . : , at most 200",
            )
    if not 1 <= request.metadata.max_concurrent_steps <= CONCURRENCY_MAX:
        raise CommandRefusedError(
            "invalid",
            f"max_concurrent_steps is {request.metadata.max_concurrent_steps}; wanted: 1 to "
            f"{CONCURRENCY_MAX}",
        )
    burst = request.metadata.max_burst_steps or 0
    if not 0 <= burst <= BURST_MAX:
        raise CommandRefusedError(
            "invalid", f"max_burst_steps is {burst}; wanted: 0, which is none, to {BURST_MAX}"
        )


def _connection_details(request: RegisterWorker) -> dict[str, Any]:
    """Sessions of one process are known by its instance: at each core it has one."""
    if request.instance is None:
        return request.connection_info
    life = {"instance": request.instance, "registrations": request.registrations}
    return {**request.connection_info, **life}


def _agree(offered: tuple[str, ...]) -> str:
    for version in versions.SPOKEN:
        if version in offered:
            return version
    raise CommandRefusedError(
        "unsupported_protocol",
        f"the worker speaks {', '.join(offered) or 'nothing'}; this daemon speaks "
        f"{', '.join(versions.SPOKEN)}",
        hint="use a worker of a release next to the daemon's",
    )


def _limits(sitting: Sitting) -> WorkerLimits:
    limits = sitting.desk.tuning.limits
    return WorkerLimits(
        result_bytes_max=limits.result_bytes_max,
        batch_steps_max=limits.batch_steps_max,
        nesting_max=limits.nesting_max,
    )


def _adopt(
    sitting: Sitting, request: RegisterWorker, session: Session, *, worker_id: int
) -> frozenset[BatchId]:
    """Batches that the worker had from an earlier session of its own stay with it."""
    uuids = [each.batch_id for each in request.in_hand if _UUID.fullmatch(each.batch_id)]
    if not uuids:
        return frozenset()
    registration_id = session.registration_id or RegistrationId(0)
    adopter = batch_store.Adopter(
        worker_id=worker_id,
        registration_id=registration_id,
        session_id=session.session_id,
        core_id=sitting.desk.state.core_id,
        instance=request.instance,
        registrations=request.registrations,
    )
    adopted = batch_store.adopt(sitting.connection, uuids, adopter, now=sitting.now)
    state, tuning = sitting.desk.state, sitting.desk.tuning
    state.in_flight.drop(row.batch_id for row in adopted)  # they are another session's now
    held = batch_store.steps_in_flight(sitting.connection, [row.batch_id for row in adopted])
    sitting.changes.then(lambda: _hand_over(state, session, held))
    sitting.changes.then(lambda: discover.watch_adopted(state, tuning, adopted, now=sitting.now))
    return frozenset(row.batch_id for row in adopted)


def _succeed(
    sitting: Sitting,
    request: RegisterWorker,
    session: Session,
    *,
    worker_id: int,
    kept: frozenset[BatchId],
) -> None:
    """What this very process was sent before, and has not in hand, has not reached it so far."""
    own = (request.former_session_id,) if request.former_session_id else ()
    named = tuple(dict.fromkeys((*own, *request.former_session_ids)))[:SUCCEEDED_MAX]
    its = store.sessions_of(sitting.connection, worker_id, named) if named else set()
    former = [each for each in named if each in its]
    known = (sitting.desk.state.sessions.get(each) for each in former)
    earlier = [each for one in known if one is not None for each in one.succeeded]
    session.succeeded = tuple(dict.fromkeys((*former, *earlier)))[:SUCCEEDED_MAX]
    for each in former:
        left = Left(session_id=each, never_started=None, kept=kept)
        sitting.answers.left.append(left)


_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def _hand_over(state: CoreState, session: Session, held: Sequence[Row]) -> None:
    if not held:
        return
    # Not only its last session: it may have been with another core since it was one of ours. Those
    # from before a restart have no name.
    names = {session.worker_name, ""}
    givers = [each for each in state.sessions.values() if each.worker_name in names]
    for row in held:
        for giver in givers:
            giver.release([row.workflow_step_id], row.batch_id)
        sent = Sent(batch_id=row.batch_id, batch_uuid=row.batch_uuid, reached=True)
        session.take(sent, [row.workflow_step_id])


def heartbeat(sitting: Sitting, asked: Asked, request: WorkerHeartbeat) -> HeartbeatReceived:
    """Note a sign of life; written to the database together with others."""
    state = sitting.desk.state
    session = state.sessions.get(request.session_id)
    if session is None or session.registration_id is None or session.deaf:
        raise CommandRefusedError(
            "unknown_session",
            f"no session '{request.session_id[:50]}' is open on {state.core_id}",
            hint="register again",
        )
    load, now = max(0, min(request.current_load, 1 << 30)), sitting.now
    interval = sitting.desk.tuning.heartbeat_interval_seconds
    whole = whole_credit(session.concurrency, sitting.desk.tuning.credit_factor)
    granted = granted_credit(whole, request.credit)

    def note() -> None:
        regranted = session.granted != granted
        if regranted:
            session.grant(granted, whole=whole)
        session.last_heard_at = now
        if session.suspect:
            session.suspect, state.quiet_until = False, None
        session.doubted_at = None
        session.load = load
        session.route = asked.route
        heard = store.Beat(load, now, session.credit)
        state.beats.note(session, heard, interval_seconds=interval, at_once=regranted)

    if granted < session.credit:
        sitting.turn.barred.add(session.session_id)  # what this tick sent would go beyond it
    sitting.turn.heard.add(session.session_id)
    delivery.hear(sitting.turn, session, [each.batch_id for each in request.in_hand])
    sitting.changes.then(note)
    return HeartbeatReceived(
        core_id=state.core_id,
        epoch=state.epoch,
        next_heartbeat_expected_at=(now + timedelta(seconds=interval)).isoformat(),
        subscribed=session.subscribed,
        cores=state.cores,
    )


def confirm_start(sitting: Sitting, _asked: Asked, request: ConfirmStart) -> StartConfirmed:
    """Let a worker begin steps that must not run twice, as long as they are still its own."""
    known = request.session_id in sitting.desk.state.sessions
    confirmed: list[StepId] = []
    if known and _UUID.fullmatch(request.batch_id):
        confirmed = batch_store.confirm_starts(
            sitting.connection,
            request.batch_id,
            request.step_ids,
            session_id=request.session_id,
            now=sitting.now,
        )
    return StartConfirmed(batch_id=request.batch_id, step_ids=tuple(sorted(confirmed)))


def goodbye(sitting: Sitting, asked: Asked, request: WorkerGoodbye) -> dict[str, str]:
    """End a session; the steps that it gives back were never started, what else it held is lost."""
    if request.session_id in sitting.desk.state.sessions:
        unfinished = frozenset(
            StepId(step_id) for batch in request.unfinished for step_id in batch.step_ids
        )
        sitting.answers.left.append(Left(session_id=request.session_id, never_started=unfinished))
    return {"session_id": request.session_id}
