"""Submissions: many by one command, or one command for each with many of them under way."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec
import orjson
import zmq

from tasker_zmq.cli.benchmark.system import System
from tasker_zmq.cli.client import CommandClient
from tasker_zmq.client import many
from tasker_zmq.client.many import Packed
from tasker_zmq.clock import IdMaker, SystemClock, system_dice
from tasker_zmq.errors import TaskerError
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.bulk import STEPS_PER_COMMAND_MAX, ShortRequest, TasksInitialized
from tasker_zmq.protocol.commands import (
    ERROR,
    Command,
    Payload,
    PublishTemplates,
    TemplatesPublished,
)
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.protocol.tasks import InitializeTask

NAMESPACE: Final = "bench"
UNDER_WAY_MAX: Final = 2_000  # commands for one task each
ANSWER_MS_MAX: Final = 60_000
WIDEST: Final = "SELECT coalesce(max(step_count), 1) FROM tasker_named_tasks WHERE name = :name"
NOTE: Final = "n" * 460  # a context of about 500 bytes

Asking = Iterator[tuple[str, object]]  # the type of each command, and its data


def request(name: str, number: int) -> InitializeTask:
    """One task of a workflow."""
    return InitializeTask(task_request=_request(name, number))


def _request(name: str, number: int) -> ShortRequest:
    order = {"order": {"id": number, "note": NOTE}}
    context = msgspec.Raw(orjson.dumps(order))
    return ShortRequest(namespace=NAMESPACE, name=name, context=context)


def publish(system: System, template: dict[str, Any]) -> None:
    """Make a workflow known; TaskerError with the problems if it is refused."""
    with CommandClient(system.commands) as client:
        reply = client.ask("PublishTemplates", PublishTemplates(templates=(template,)))
    for each in codec.decode_data(reply, TemplatesPublished).verdicts:
        if each.verdict == "refused":
            raise TaskerError(f"{each.full_name}: {'; '.join(each.problems)}")


def submit(system: System, name: str, numbers: Iterable[int]) -> None:
    """A task for each number, hundreds by one command, as `TaskerClient.submit_many` sends them."""
    packed = many.pack(_request(name, each) for each in numbers)
    steps = int(str(system.scalar(WIDEST, name=name)))
    asking = _in_bulk(packed, at_most=min(many.TASKS_MAX, max(1, STEPS_PER_COMMAND_MAX // steps)))
    _exchange(system, asking, under_way_max=many.UNDER_WAY_MAX, check=_all_made)


def _in_bulk(packed: Iterator[Packed], *, at_most: int) -> Asking:
    held: deque[Packed] = deque()
    while taken := many.take(packed, held, at_most):
        yield "InitializeTasks", many.command(taken)


def submit_pipelined(system: System, name: str, numbers: Iterable[int]) -> None:
    """A task for each number by a command of its own, with so many under way at once."""
    asking = (("InitializeTask", request(name, each)) for each in numbers)
    _exchange(system, asking, under_way_max=UNDER_WAY_MAX, check=_made)


def _exchange(
    system: System, asking: Asking, *, under_way_max: int, check: Callable[[msgspec.Raw], None]
) -> None:
    """Send all, and hear every answer."""
    batch_of_ids = IdMaker(SystemClock(), system_dice()).uuid7()
    sent = answered = 0
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVTIMEO, ANSWER_MS_MAX)
        socket.connect(system.commands)
        while True:
            for kind, payload in islice(asking, under_way_max - (sent - answered)):
                socket.send(_command(kind, payload, f"{batch_of_ids}-{sent}"))
                sent += 1
            if answered == sent:
                return
            system.interruption.check()
            reply = codec.decode_command(socket.recv(), WireLimits())
            if reply.payload.type == ERROR:
                refused = bytes(reply.payload.data).decode()
                raise TaskerError(f"a submission was refused: {refused}")
            check(reply.payload.data)
            answered += 1


def _command(kind: str, payload: object, command_id: str) -> bytes:
    asked = Payload(type=kind, data=codec.raw(payload))
    return codec.encode(Command(command_type=kind, command_id=command_id, payload=asked))


def _made(_answer: msgspec.Raw) -> None:
    """What is answered at all was made."""


def _all_made(answer: msgspec.Raw) -> None:
    told = codec.decode_data(answer, TasksInitialized)
    first = next((each.refused for each in told.tasks if each.refused is not None), None)
    if first is not None:
        raise TaskerError(f"{told.refused} submissions were refused, the first: {first.message}")
