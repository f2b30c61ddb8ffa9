"""Commands about daemons and workers themselves, and calls of functions that a daemon was given."""

from enum import StrEnum

import msgspec

from tasker_zmq.domain.ids import SessionId
from tasker_zmq.protocol.commands import NULL


class Shutdown(msgspec.Struct, frozen=True, kw_only=True):
    """Daemon to worker: take nothing more, let running steps end, say goodbye, and exit."""

    session_id: SessionId
    reason: str = ""


class ShutdownWorker(msgspec.Struct, frozen=True, kw_only=True):
    """Have all sessions of a worker at this core told to shut down."""

    worker_name: str
    why: str = ""


class WorkerShutdown(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to ShutdownWorker: who was told."""

    worker_name: str
    session_ids: tuple[SessionId, ...]


class ManagementAction(StrEnum):
    """What a daemon can be asked to do with itself; `startup` only tells why it cannot."""

    STATUS = "status"
    HEALTH_CHECK = "health_check"
    DRAIN = "drain"
    SHUTDOWN = "shutdown"
    STARTUP = "startup"


class SystemManagement(msgspec.Struct, frozen=True, kw_only=True):
    """Ask about this daemon, or end its work."""

    action: ManagementAction
    why: str = ""


class SystemManaged(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to SystemManagement; `health` is as the health socket has it."""

    action: ManagementAction
    core_id: str
    health: msgspec.Raw


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Call a function that the daemon's own settings name, with these as keywords."""

    function: str
    arguments: dict[str, msgspec.Raw] = {}


class Called(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's answer to Call: what the function returned."""

    function: str
    result: msgspec.Raw = NULL
