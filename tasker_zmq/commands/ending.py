"""What people may do with daemons and workers themselves, if their settings let them."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tasker_zmq.commands.context import Sitting
from tasker_zmq.commands.managing import session_of
from tasker_zmq.commands.replies import Asked, CommandRefusedError
from tasker_zmq.pipeline.delivery import tell
from tasker_zmq.pipeline.state import Session
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.management import (
    ManagementAction,
    Shutdown,
    ShutdownWorker,
    SystemManaged,
    SystemManagement,
    WorkerShutdown,
)
from tasker_zmq.telemetry.events import Event, log

logger = logging.getLogger(__name__)

WHY_LENGTH_MAX: Final = 500


@dataclass(frozen=True, kw_only=True)
class Management:
    """A daemon, for those who ask about it: how it is, and how its work is ended."""

    allowed: bool
    core_id: str
    health: Callable[[], Mapping[str, Any]]
    drain: Callable[[], None]
    stop: Callable[[], None]


def _nothing() -> None:
    """What a daemon does that is not there."""


# For who has no daemon to manage.
NOBODY: Final = Management(
    allowed=False, core_id="", health=dict[str, Any], drain=_nothing, stop=_nothing
)


def refuse_management(*, allowed: bool) -> None:
    """Raise unless the settings let people manage this daemon and its workers by commands."""
    if not allowed:
        raise CommandRefusedError(
            "not_allowed",
            "this daemon and its workers are not managed by commands",
            hint="set commands.management to on, or to local with endpoints.commands on loopback",
        )


def manage_system(management: Management, request: SystemManagement) -> SystemManaged:
    """Say how the daemon is, or begin to end its work; the answer goes out before it stops."""
    refuse_management(allowed=management.allowed)
    if request.action is ManagementAction.STARTUP:
        raise CommandRefusedError(
            "invalid",
            f"core '{management.core_id}' runs already: what does not run hears no command",
            hint="let a supervisor start daemons: `tasker-zmq daemon`",
        )
    ends = {ManagementAction.DRAIN: management.drain, ManagementAction.SHUTDOWN: management.stop}
    end = ends.get(request.action)
    if end is not None:
        what, why = f"daemon {request.action}", request.why[:WHY_LENGTH_MAX]
        log(logger, logging.WARNING, Event.MANAGED, what=what, why=why)
        end()
    health = codec.raw(dict(management.health()))
    return SystemManaged(action=request.action, core_id=management.core_id, health=health)


def shut_down_worker(sitting: Sitting, asked: Asked, request: ShutdownWorker) -> WorkerShutdown:
    """Tell all sessions of a worker to end, and send them nothing more."""
    refuse_management(allowed=sitting.desk.management)
    name, state = request.worker_name, sitting.desk.state
    session_of(sitting, name)  # who is not here is said to be elsewhere, or nowhere
    sessions = [each for each in state.sessions.values() if each.worker_name == name and each.route]
    reason = request.why[:WHY_LENGTH_MAX]
    for each in sessions:
        told = Shutdown(session_id=each.session_id, reason=reason)
        command_id = f"shutdown-{each.session_id}-{sitting.now.timestamp():.6f}"
        sitting.answers.letters.append(tell(each, told, command_id))
    source = asked.command.metadata.source
    sitting.changes.then(lambda: _note(sessions, reason, by=source.id if source else None))
    return WorkerShutdown(worker_name=name, session_ids=tuple(each.session_id for each in sessions))


def _note(sessions: list[Session], why: str, *, by: str | None) -> None:
    for session in sessions:
        session.leaving = True
        what = f"shutdown of {session.worker_name}"
        log(logger, logging.WARNING, Event.MANAGED, what=what, by=by, why=why)
