"""A system for the measurements of this folder: that of `tasker-zmq bench`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tasker_zmq.cli.benchmark import system
from tasker_zmq.cli.benchmark.system import System, WorkerSpec
from tasker_zmq.cli.demonstration.interruption import interruptible
from tasker_zmq.clock import SystemClock


@contextmanager
def running(
    workers: Sequence[WorkerSpec], *, settings: Mapping[str, str] | None = None
) -> Iterator[System]:
    """See `tasker_zmq.cli.benchmark.system.running`; a signal ends it between two steps."""
    with (
        interruptible(SystemClock()) as interruption,
        system.running(workers, interruption=interruption, settings=settings) as started,
    ):
        yield started
