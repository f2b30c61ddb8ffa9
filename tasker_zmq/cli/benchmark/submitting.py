"""Submissions: one after the other, or many on their way at once."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

import msgspec
import orjson
import zmq

from tasker_zmq.cli.benchmark.system import System
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.clock import IdMaker, SystemClock, system_dice
from tasker_zmq.errors import TaskerError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import (
    ERROR,
    Command,
    Payload,
    PublishTemplates,
    TemplatesPublished,
)
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.tasks import InitializeTask, TaskRequest

NAMESPACE: Final = "bench"
UNDER_WAY_MAX: Final = 2_000
ANSWER_MS_MAX: Final = 60_000
NOTE: Final = "n" * 460  # a context of about 500 bytes


def request(name: str, number: int) -> InitializeTask:
    """One task of a workflow."""
    order = {"order": {"id": number, "note": NOTE}}
    context = msgspec.Raw(orjson.dumps(order))
    return InitializeTask(task_request=TaskRequest(namespace=NAMESPACE, name=name, context=context))


def publish(system: System, template: dict[str, Any]) -> None:
    """Make a workflow known; TaskerError with the problems if it is refused."""
    with CommandClient(system.commands) as client:
        reply = client.ask("PublishTemplates", PublishTemplates(templates=(template,)))
    for each in codec.decode_data(reply, TemplatesPublished).verdicts:
        if each.verdict == "refused":
            raise TaskerError(f"{each.full_name}: {'; '.join(each.problems)}")


def submit(system: System, requests: Iterable[InitializeTask]) -> int:
    """Send all, with so many under way at once, and hear every answer; how many there were."""
    waiting = iter(requests)
    batch_of_ids = IdMaker(SystemClock(), system_dice()).uuid7()
    sent = answered = 0
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVTIMEO, ANSWER_MS_MAX)
        socket.connect(system.commands)
        while True:
            for each in islice(waiting, UNDER_WAY_MAX - (sent - answered)):
                socket.send(_command(each, f"{batch_of_ids}-{sent}"))
                sent += 1
            if answered == sent:
                return sent
            system.interruption.check()
            _check(socket.recv())
            answered += 1


def _command(asked: InitializeTask, command_id: str) -> bytes:
    return codec.encode(
        Command(
            command_type="InitializeTask",
            command_id=command_id,
            payload=Payload(type="InitializeTask", data=codec.raw(asked)),
        )
    )


def _check(frame: bytes) -> None:
    reply = codec.decode_command(frame, WireLimits())
    if reply.payload.type == ERROR:
        raise TaskerError(f"a submission was refused: {bytes(reply.payload.data).decode()}")
