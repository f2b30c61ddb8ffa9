"""ManageWorker and PingWorker: what people decide about workers, and whether one answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tasker_zmq.commands import envelope
from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.deed import BY_CHARACTERS_MAX, WHY_CHARACTERS_MAX
from tasker_zmq.commands.replies import LATER, Asked, CommandRefusedError, refusal, success
from tasker_zmq.domain.administration import Administration, Pin, WorkerMode
from tasker_zmq.domain.ids import HandlerClass
from tasker_zmq.pipeline import delivery
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.letters import Answerer
from tasker_zmq.pipeline.state import PendingPing, Session
from tasker_zmq.protocol.envelope import CoreAddress
from tasker_zmq.protocol.workers import (
    ManageAction,
    ManageWorker,
    PingWorker,
    PinTarget,
    WorkerManaged,
    WorkerPinged,
)
from tasker_zmq.store import administration as store
from tasker_zmq.store import breakers as breaker_store
from tasker_zmq.store import workers as worker_store
from tasker_zmq.store.administration import Decided

PINS_MAX: Final = 1_000
PING_MS_MAX: Final = 60_000
_MODES: Final = {
    ManageAction.DRAIN: WorkerMode.DRAINING,
    ManageAction.DISABLE: WorkerMode.DISABLED,
    ManageAction.ENABLE: WorkerMode.ENABLED,
}


def manage_worker(sitting: Sitting, asked: Asked, request: ManageWorker) -> WorkerManaged:
    """Write down what was decided; this core obeys in the same tick, the others when told."""
    decided = _decided(sitting, asked, request)
    worker_id = store.worker_id_of(sitting.connection, request.worker_name)
    if worker_id is None:
        raise worker_unknown(sitting, request.worker_name)
    mode = _MODES.get(request.action)
    if mode is not None:
        store.set_mode(sitting.connection, worker_id, mode, decided=decided)
        if mode is WorkerMode.ENABLED:
            breaker_store.close_of(sitting.connection, worker_id, now=sitting.now)
    elif request.action is ManageAction.UNPIN:
        store.remove_pins(sitting.connection, worker_id)
    else:
        pin = _pin(request)
        known = store.load(sitting.connection).pins
        if len(known) >= PINS_MAX:
            raise CommandRefusedError("refused", f"there are {len(known)} pins; unpin some first")
        if pin not in known:
            store.add_pin(sitting.connection, worker_id, pin, decided=decided)
    sitting.turn.managed.add(request.worker_name)
    return _standing(store.load(sitting.connection), request.worker_name)


def _decided(sitting: Sitting, asked: Asked, request: ManageWorker) -> Decided:
    by = request.by or envelope.initiator(asked) or ""
    if not by.strip():
        raise CommandRefusedError("invalid", "'by' is empty; say who decides: it is kept")
    if len(request.why) > WHY_CHARACTERS_MAX or len(by) > BY_CHARACTERS_MAX:
        raise CommandRefusedError(
            "invalid",
            f"'why' has {len(request.why)} characters and 'by' {len(by)}; wanted are at most "
            f"{WHY_CHARACTERS_MAX} and {BY_CHARACTERS_MAX}",
        )
    return Decided(by=by, why=request.why, now=sitting.now)


def worker_unknown(sitting: Sitting, worker_name: str) -> CommandRefusedError:
    """That there is no such worker, with the nearest that there is."""
    near = store.nearest(sitting.connection, worker_name[:200])
    return CommandRefusedError(
        "not_found",
        f"no worker '{worker_name[:60]}' has ever registered",
        hint=f"did you mean '{near}'?" if near else "see `tasker-zmq workers list --all`",
    )


def _pin(request: ManageWorker) -> Pin:
    target = request.pin or PinTarget()
    named = (target.named_task, target.handler_class, target.task_id)
    if sum(each is not None for each in named) != 1:
        raise CommandRefusedError(
            "invalid", "a pin names one of named_task, handler_class and task_id"
        )
    if target.named_task is None:
        return Pin(
            worker_name=request.worker_name,
            handler_class=None if named[1] is None else HandlerClass(named[1]),
            task_id=target.task_id,
        )
    name, _, version = target.named_task.partition("@")
    namespace, _, task_name = name.partition("/")
    if not (namespace and task_name):
        raise CommandRefusedError(
            "invalid",
            f"'{target.named_task[:60]}' is no named task; wanted: namespace/name[@version]",
        )
    return Pin(
        worker_name=request.worker_name,
        namespace=namespace,
        task_name=task_name,
        version=version or None,
    )


def _standing(administration: Administration, worker_name: str) -> WorkerManaged:
    return WorkerManaged(
        worker_name=worker_name,
        mode=administration.mode(worker_name),
        pins=tuple(target_of(pin) for pin in administration.pins if pin.worker_name == worker_name),
    )


def target_of(pin: Pin) -> PinTarget:
    """A pin as it was asked for."""
    named = None
    if pin.task_name is not None:
        named = f"{pin.namespace}/{pin.task_name}" + (f"@{pin.version}" if pin.version else "")
    return PinTarget(named_task=named, handler_class=pin.handler_class, task_id=pin.task_id)


def ping_worker(sitting: Sitting, asked: Asked, request: PingWorker) -> object:
    """Ask the worker's newest session; answered when it is heard, or when it took too long."""
    if not 1 <= request.timeout_ms <= PING_MS_MAX:
        raise CommandRefusedError(
            "invalid", f"timeout_ms is {request.timeout_ms}; wanted: 1 to {PING_MS_MAX}"
        )
    session = session_of(sitting, request.worker_name)
    asking = _Asking(asked, request, session, sitting.answerer)
    ping = PendingPing(
        session_id=session.session_id,
        due_at=sitting.now + timedelta(milliseconds=request.timeout_ms),
        answer=asking.answer,
    )
    sitting.answers.letters.append(delivery.ping(session))
    sitting.changes.then(lambda: sitting.desk.state.pings.append(ping))
    return LATER


def session_of(sitting: Sitting, worker_name: str) -> Session:
    """The worker's newest session here; raises CommandRefusedError that says where it is."""
    here = [
        each for each in sitting.desk.state.sessions.values() if each.worker_name == worker_name
    ]
    if here and here[-1].route:
        return here[-1]
    if store.worker_id_of(sitting.connection, worker_name) is None:
        raise worker_unknown(sitting, worker_name)
    cores = store.cores_of(sitting.connection, worker_name, now=sitting.now)
    if not cores:
        raise CommandRefusedError(
            "unreachable",
            f"worker '{worker_name}' is not connected to any core",
            hint=f"see `tasker-zmq workers show {worker_name}`",
        )
    raise CommandRefusedError(
        "elsewhere",
        f"worker '{worker_name}' is connected to {', '.join(cores)}, not to "
        f"{sitting.desk.state.core_id}",
        hint=f"ask {cores[0]}",
        core=core_address(sitting, cores[0]),
    )


def core_address(sitting: Sitting, core_id: str) -> CoreAddress | None:
    """Where the core takes commands; None if it does not run."""
    address = worker_store.living_cores(sitting.connection, now=sitting.now).get(core_id)
    return CoreAddress(core_id=core_id, commands=address) if address else None


@dataclass(frozen=True)
class _Asking:
    """One who waits for a sign of life; `asked_of` is who was asked, and when."""

    asked: Asked
    request: PingWorker
    session: Session
    asked_of: Answerer

    def answer(self, heard_at: datetime | None, now: datetime) -> Letter:
        """The letter for a sign of life at that moment, or for none."""
        by = Answerer(self.asked_of.core_id, now)
        if heard_at is None:
            error = CommandRefusedError(
                "unreachable",
                f"worker '{self.request.worker_name}' gave no sign of life within "
                f"{self.request.timeout_ms} ms",
                hint=f"see `tasker-zmq workers show {self.request.worker_name}`",
            )
            return refusal(self.asked, error, by=by)
        told = WorkerPinged(
            worker_name=self.request.worker_name,
            session_id=self.session.session_id,
            core_id=by.core_id,
            round_trip_ms=round((heard_at - self.asked_of.at).total_seconds() * 1_000, 3),
            subscribed=self.session.subscribed,
        )
        return success(self.asked, "WorkerPinged", told, by=by)
