"""A handler process: imports the targets, then runs one step after the other until its pipe ends.

Started by the process executor: `python -m ...child FD TARGETS`.
"""

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from types import FrameType

import msgspec

from tasker_zmq.clock import SystemClock
from tasker_zmq.telemetry import logs
from tasker_zmq.worker.calling import Surroundings, call
from tasker_zmq.worker.cancellation import Cancellation
from tasker_zmq.worker.executors.process import READY, CancelRun, ChildSettings
from tasker_zmq.worker.executors.waiting import WaitingRuns
from tasker_zmq.worker.registry import HandlerRegistry, registry_of
from tasker_zmq.worker.runs import Outcome, Progress, StepRun, cancelled, failed
from tasker_zmq.worker.targets import load_targets

_commands = msgspec.json.Decoder(StepRun | CancelRun)


def main() -> None:
    """Serve the pipe given by number; the worker decides when this ends, not a terminal."""
    # A function and not SIG_IGN, which the programs that a handler starts would inherit.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, _ignore)
    pipe = Pipe(Connection(int(sys.argv[1])))
    settings = msgspec.json.decode(sys.argv[2], type=ChildSettings)
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    logs.configure(level=settings.log_level, style=settings.log_format, root=logs.EVERYONE)
    registry = registry_of(load_targets(settings.targets).modules)
    threading.Thread(target=pipe.listen, daemon=True).start()
    pipe.send(READY)
    try:
        while (taken := pipe.runs.take()) is not None:
            run, cancellation = taken
            outcome = _outcome_of(run, cancellation, registry=registry, pipe=pipe)
            pipe.runs.ended(run.key)
            pipe.send(msgspec.json.encode(outcome))
    except OSError:
        return  # the worker closed its end


class Pipe:
    """The pipe to the worker; a handler's own threads may report progress while it is in use."""

    def __init__(self, connection: Connection) -> None:
        self.runs = WaitingRuns()
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: bytes) -> None:
        with self._lock:
            self._connection.send_bytes(message)

    def listen(self) -> None:
        """Take what the worker says, also while a handler runs; until it closes its end."""
        try:
            while True:
                said = _commands.decode(self._connection.recv_bytes())
                if isinstance(said, StepRun):
                    self.runs.put(said)
                else:
                    key = (said.batch_id, said.step_id)
                    for _ in self.runs.cancel([key], said.reason):
                        self.send(msgspec.json.encode(cancelled(said.reason)))
        except (EOFError, OSError):
            self.runs.close(1)


def _outcome_of(
    run: StepRun, cancellation: Cancellation, *, registry: HandlerRegistry, pipe: Pipe
) -> Outcome:
    handler = registry.find(run.request.handler_class)
    if handler is None:
        message = registry.unknown(run.request.handler_class)
        return failed("UnknownHandler", message, retryable=False)

    def report(value: bytes) -> None:
        pipe.send(msgspec.json.encode(Progress(value=msgspec.Raw(value))))

    around = Surroundings(report=report, cancellation=cancellation, clock=SystemClock())
    return call(handler, run, around)


def _end_with_the_worker() -> None:
    """Standard input ends when the worker is gone, however it went: stop in mid-step then."""
    os.read(0, 1)
    os._exit(1)


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """A terminal's Ctrl-C reaches every process of the worker; the worker says when to end."""


if __name__ == "__main__":
    main()
