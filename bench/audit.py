"""What the audit costs: submissions to a daemon that keeps commands and to one that does not.

`python -m bench.audit --submissions 2000 --turns 5`. Both take turns, so that a noisy machine
troubles them alike; the processor time is that of the whole daemon, the scribe's thread included.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click
import orjson
import zmq

from bench.system import running
from tasker_zmq.cli.benchmark.costs import processor_seconds
from tasker_zmq.cli.benchmark.load import chain4
from tasker_zmq.cli.benchmark.submitting import request
from tasker_zmq.cli.benchmark.system import System
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.clock import IdMaker, SystemClock, system_dice
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Command, Payload, PublishTemplates

STARTED = "SELECT EXISTS (SELECT FROM tasker_cores)"
KEPT = "SELECT count(*) >= :wanted FROM tasker_worker_command_audit"
SETTLE_SECONDS = 1.5


@dataclass
class Candidate:
    """A daemon with its setting, and what each turn took: seconds, and of the processor."""

    level: str
    system: System
    socket: "zmq.Socket[bytes]"
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def turn(self, frames: list[bytes]) -> None:
        used = processor_seconds([self.system.daemon])
        began = time.perf_counter()
        for frame in frames:
            self.socket.send(frame)
        for _ in frames:
            self.socket.recv()
        self.seconds.append(time.perf_counter() - began)
        time.sleep(SETTLE_SECONDS)  # what is written afterwards counts too
        self.processor.append(processor_seconds([self.system.daemon]) - used)


def submissions_of(count: int, ids: IdMaker) -> list[bytes]:
    return [
        codec.encode(
            Command(
                command_type="InitializeTask",
                command_id=ids.uuid7(),
                payload=Payload(type="InitializeTask", data=codec.raw(request("chain4", number))),
            )
        )
        for number in range(count)
    ]


@contextmanager
def candidate(level: str, context: "zmq.Context[zmq.Socket[bytes]]") -> Iterator[Candidate]:
    """A daemon with that `audit.level`, a workflow, and nobody who would run it."""
    with running([], settings={"TASKER_AUDIT_LEVEL": level}) as system:
        system.wait_until(STARTED)
        with CommandClient(system.commands) as client:
            client.ask("PublishTemplates", PublishTemplates(templates=(chain4.template(),)))
        with context.socket(zmq.DEALER) as socket:
            socket.connect(system.commands)
            yield Candidate(level, system, socket)


@click.command()
@click.option("--submissions", default=2_000, show_default=True, help="In each turn.")
@click.option("--turns", default=5, show_default=True, help="One more, the first, warms up.")
def audit(*, submissions: int, turns: int) -> None:
    """Print medians of the turns, without and with the audit."""
    ids = IdMaker(SystemClock(), system_dice())
    with (
        zmq.Context() as context,
        candidate("off", context) as off,
        candidate("all", context) as kept,
    ):
        for number in range(turns + 1):
            for each in (off, kept) if number % 2 else (kept, off):
                each.turn(submissions_of(submissions, ids))
        kept.system.wait_until(KEPT, wanted=2 * submissions * (turns + 1))
    figures = {
        each.level: {
            "seconds": round(statistics.median(each.seconds[1:]), 3),
            "daemon_processor_seconds": round(statistics.median(each.processor[1:]), 3),
            "all_seconds": [round(one, 3) for one in each.seconds],
        }
        for each in (off, kept)
    }
    click.echo(orjson.dumps({"submissions": submissions, **figures}, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    audit()
