"""Results that come as commands: the ledger, the steps and the answer are as with the others."""

from typing import Any, cast

import msgspec
from msgspec.json import decode

from tasker_zmq.daemon.desk import FrontDesk, Lanes
from tasker_zmq.daemon.mailbox import Mailbox
from tasker_zmq.daemon.readers import Readers
from tasker_zmq.pipeline.inbox import Received, ReceivedResult
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Command, Payload
from tasker_zmq.protocol.limits import WireLimits
from tasker_zmq.testing.simulated_worker import SimulatedWorker, Word
from tasker_zmq.testing.world import CLIENT, Node, World, template

PAIR = template("pair", {"a": Node(), "b": Node(after=("a",))})


def arrived(world: World, command_type: str, content: bytes) -> list[Received]:
    """What a command becomes on its way through the io thread."""
    mailbox = Mailbox(messages_max=10, bytes_max=1_000_000)
    front = FrontDesk(
        Lanes(mailbox=mailbox, readers=cast(Readers, None), snapshot=dict),
        limits=WireLimits(),
        core_id="core-1",
        clock=world.clock,
        send=lambda _letter: None,
        legacy_workers=False,
    )
    command = Command(
        command_type=command_type,
        command_id="c-1",
        payload=Payload(type=command_type, data=msgspec.Raw(content)),
    )
    front.command([*CLIENT, codec.encode(command)])
    return mailbox.take(10, 10, 0)


def answered(world: World, command_type: str, said: ReceivedResult) -> dict[str, Any]:
    body = said.frames[0].partition(b" ")[2]
    world.tick(*arrived(world, command_type, body))
    (reply,) = [reply for _, reply in world.letters if reply.correlation_id == "c-1"]
    world.letters.clear()
    assert (reply.command_type, reply.payload.type) == ("ResultReported", "Success")
    told: dict[str, Any] = decode(reply.payload.data)
    return told


def started(world: World) -> SimulatedWorker:
    world.publish(PAIR)
    worker = world.worker()
    world.submit("pair")
    return worker


def test_a_reported_result_moves_its_step_and_is_answered_with_the_verdict(world: World) -> None:
    worker = started(world)
    batch = worker.batch()
    partial = worker.partial(batch, batch.steps[0].step_id, Word(output={"n": 1}))
    assert answered(world, "ReportPartialResult", partial) == {
        "verdict": "applied",
        "problems": None,
    }
    again = answered(world, "ReportPartialResult", partial)
    assert (again["verdict"], bool(again["problems"])) == ("duplicate", True)
    assert world.verdicts() == ["applied", "duplicate"]
    ledgered = {row.raw_message_json["step_id"] for row in world.ledger()}
    assert ledgered == {batch.steps[0].step_id}
    worker.take(batch)
    world.run()


def test_a_reported_completion_is_the_batchs_completion(world: World) -> None:
    worker = started(world)
    (partial, completion) = worker.work()
    world.tick(partial)
    assert answered(world, "ReportBatchCompletion", completion)["verdict"] == "applied"
    assert world.batches()[0].reconciliation_status == "consistent"
    world.run()


def test_a_report_that_makes_no_sense_is_kept_and_told(world: World) -> None:
    worker = started(world)
    nonsense = ReceivedResult((b'partial_result {"batch_id":7}',))
    told = answered(world, "ReportPartialResult", nonsense)
    assert told["verdict"] == "rejected"
    assert "batch_id" in told["problems"]["detail"]
    assert world.verdicts() == ["rejected"]
    worker.batch()
    world.run()
