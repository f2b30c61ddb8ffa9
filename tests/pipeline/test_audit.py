"""What real ticks say to real commands, as the scribe writes it down."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, Row, create_engine

from tasker_zmq.commands.auditing import Account
from tasker_zmq.daemon.scribe import Scribe
from tasker_zmq.daemon.trail import AuditTrail
from tasker_zmq.pipeline.delivery import ping
from tasker_zmq.pipeline.inbox import Letter, Received, ReceivedCommand
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import Command, WorkerGoodbye, WorkerHeartbeat
from tasker_zmq.store.connection import ConnectionLimits, create
from tasker_zmq.testing.world import CLIENT, Node, World, template
from tests.pipeline.conftest import MakeWorld

OPENED: list[Scribe] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """A scribe keeps its connection, and no collector comes by in time to give it back."""
    yield
    while OPENED:
        connection = OPENED.pop()._connection
        if connection is not None:
            connection.close()


class Office:
    """A world whose commands pass by a trail, and a scribe that writes when it is told."""

    def __init__(self, world: World, engine: Engine, **more: Any) -> None:
        self.world = world
        self.trail = AuditTrail(world.clock)
        account = Account(**{"envelope_bytes_max": 10_000, **more})
        clock, core_id = world.clock, world.core_id
        self.scribe = Scribe(engine, self.trail, account, core_id=core_id, clock=clock, rows_max=50)
        OPENED.append(self.scribe)

    def tick(self, *received: Received, seconds: float = 0.0) -> None:
        """What arrives is answered `seconds` later."""
        for each in received:
            if isinstance(each, ReceivedCommand):
                self.trail.received(each, None)
        self.world.clock.advance(seconds)
        self.trail.sent(self.world.tick(*received).letters)

    def written(self) -> Sequence[Row[Any]]:
        self.scribe.turn()
        return self.world.rows("SELECT * FROM tasker_worker_command_audit ORDER BY id")


@pytest.fixture
def office(world: World) -> Office:
    world.publish(template("chain", {"one": Node()}))
    return Office(world, world.engine)


def test_a_command_is_kept_with_what_came_of_it_and_its_answer_behind_it(office: Office) -> None:
    asked = office.world.command("InitializeTask", office.world.request("chain"), command_id="c1")
    office.tick(asked, seconds=0.25)
    task_id = office.world.rows("SELECT task_id FROM tasker_tasks")[0].task_id
    received, sent = office.written()
    assert (received.direction, sent.direction) == ("received", "sent")
    assert (received.command_type, sent.command_type) == ("InitializeTask", "TaskInitialized")
    assert (received.command_id, sent.correlation_id) == ("c1", "c1")
    assert (received.outcome, received.execution_time_ms) == ("success", 250.0)
    assert received.task_id == sent.task_id == task_id
    assert received.envelope["payload"]["data"]["task_request"]["name"] == "chain"
    assert received.envelope_bytes == len(asked.body)
    assert received.core_id == office.world.core_id


def test_a_refusal_is_kept_under_its_code(office: Office) -> None:
    office.tick(office.world.command("InitializeTask", office.world.request("nothing")))
    office.tick(office.world.command("Nonsense", {}), ReceivedCommand(CLIENT, b"\xff"))
    found = [(row.direction, row.command_type, row.outcome) for row in office.written()]
    assert found[0] == ("received", "InitializeTask", "not_found")
    assert ("received", "Nonsense", "unknown_command") in found
    assert ("received", "unreadable", "not_utf8") in found


def test_an_envelope_that_is_too_long_is_not_kept_but_its_length(world: World) -> None:
    office = Office(world, world.engine, envelope_bytes_max=100)
    office.tick(world.command("InitializeTask", world.request("x", {"pad": "y" * 100})))
    received, _ = office.written()
    assert received.envelope is None
    assert received.envelope_bytes > 100


def test_many_tasks_of_one_command_are_two_rows_with_their_numbers(world: World) -> None:
    world.publish(template("chain", {"one": Node()}))
    office = Office(world, world.engine, envelope_bytes_max=500)
    good = {"namespace": "tests", "name": "chain"}
    asked = [good] * 90 + [{**good, "name": "nothing"}] * 2
    office.tick(world.command("InitializeTasks", {"task_requests": asked}))
    received, sent = office.written()
    assert (received.envelope, received.outcome) == (None, "success")
    assert (sent.command_type, sent.correlation_id) == ("TasksInitialized", received.command_id)
    assert sent.envelope_bytes > 500
    assert sent.envelope["payload"]["data"] == {"created": 90, "duplicates": 0, "refused": 2}


def test_beats_are_counted_by_minute_and_session(office: Office) -> None:
    worker = office.world.worker()
    for _ in range(3):
        office.tick(*office.world.beats(), seconds=0.1)
    assert office.written() == []
    office.world.clock.advance(60)
    (row,) = office.written()
    assert (row.command_type, row.messages, row.outcome) == ("WorkerHeartbeat", 3, "success")
    assert (row.session_id, row.envelope) == (worker.session_id, None)
    assert row.execution_time_ms == pytest.approx(100.0)


def test_a_ping_is_kept_and_answered_by_the_next_beat(office: Office) -> None:
    register = office.world.command("RegisterWorker", {"worker_name": "anna"}, route=(b"anna",))
    office.tick(register)
    (session_id,) = office.world.state.sessions
    office.trail.sent([ping(office.world.state.sessions[session_id])])
    office.world.clock.advance(0.5)
    beat = WorkerHeartbeat(session_id=session_id)
    office.tick(office.world.command("WorkerHeartbeat", beat, route=(b"anna",)))
    registered, _, told, answered = office.written()
    assert (registered.session_id, registered.worker_name) == (session_id, "anna")
    assert (told.direction, told.command_type, told.outcome) == ("sent", "Ping", None)
    assert told.worker_name == "anna"
    assert (answered.command_type, answered.outcome) == ("WorkerHeartbeat", "answered")
    assert answered.correlation_id == told.command_id
    assert answered.execution_time_ms == 500.0


def test_a_ping_that_nobody_answers_times_out(office: Office) -> None:
    office.world.worker()
    (session,) = office.world.state.sessions.values()
    office.trail.sent([ping(session)])
    office.written()
    office.world.clock.advance(2.5)
    told, late = office.written()
    assert late.correlation_id == told.command_id
    assert (late.outcome, late.execution_time_ms) == ("timed_out", 2_000.0)


def test_what_is_never_answered_is_said_to_be_so(office: Office) -> None:
    office.trail.received(office.world.command("GetTask", {"task_id": 1}), None)
    assert office.written() == []
    office.world.clock.advance(61)
    (row,) = office.written()
    assert (row.outcome, row.task_id, row.execution_time_ms) == ("unanswered", 1, None)


def test_two_with_one_id_are_two_with_an_answer_each(office: Office) -> None:
    asked = office.world.command("InitializeTask", office.world.request("chain"), command_id="c")
    office.tick(asked, asked)
    kept = [(row.direction, row.outcome) for row in office.written()]
    assert sorted(kept) == [("received", "success")] * 2 + [("sent", "success")] * 2


def test_only_changes_are_kept_if_that_is_wanted(make_world: MakeWorld) -> None:
    world = make_world()
    office = Office(world, world.engine, questions=False)
    office.tick(world.command("RegisterWorker", {"worker_name": "anna"}))
    (session_id,) = world.state.sessions
    office.tick(*(world.command("WorkerHeartbeat", {"session_id": session_id}) for _ in range(2)))
    question = world.command("GetTask", {"task_id": 1}, command_id="q")
    office.trail.received(question, None)
    office.trail.sent([Letter(CLIENT, question.body.replace(b'tion_id":null', b'tion_id":"q"'))])
    office.tick(world.command("WorkerGoodbye", WorkerGoodbye(session_id=session_id)))
    world.clock.advance(60)
    kept = {row.command_type for row in office.written()}
    assert kept == {"RegisterWorker", "WorkerRegistered", "WorkerGoodbye", "GoodbyeReceived"}


def test_what_finds_no_room_is_counted_and_the_count_is_written(office: Office) -> None:
    office.trail._noted_max = 3
    questions = [office.world.command("GetTask", {"task_id": n}) for n in range(5)]
    for each in questions:
        office.trail.received(each, None)
    office.written()
    assert office.scribe.figures() == {"audit_waiting": 0, "audit_lost": 2}
    (row,) = office.written()
    assert (row.command_type, row.messages) == ("AuditLost", 2)


def test_while_the_database_is_away_rows_wait_and_too_many_are_counted(office: Office) -> None:
    nowhere = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    database, office.scribe._database = office.scribe._database, nowhere
    request = office.world.request("chain")
    for _ in range(30):  # two rows each, of which 50 may wait
        office.tick(office.world.command("InitializeTask", request))
    assert office.written() == []
    assert office.scribe.figures() == {"audit_waiting": 50, "audit_lost": 10}
    office.scribe._database = database
    rows = office.written()
    assert len(rows) == 51
    assert (rows[-1].command_type, rows[-1].messages) == ("AuditLost", 10)
    assert office.scribe.figures()["audit_waiting"] == 0


def test_a_row_that_cannot_be_written_holds_up_no_other(office: Office) -> None:
    odd = ReceivedCommand(
        CLIENT, b'{"command_type":"\\u0000","command_id":"c","payload":{"type":"x"}}'
    )
    first, last = (Letter(CLIENT, office.world.command(kind, {}).body) for kind in ("A", "B"))
    office.trail.sent([first, Letter(CLIENT, odd.body), last])
    kept = [row.command_type for row in office.written()]
    assert kept == ["A", "B", "AuditLost"]
    assert office.scribe.figures() == {"audit_waiting": 0, "audit_lost": 1}


def test_at_the_end_everything_is_written(office: Office) -> None:
    database = create(
        office.world.engine.url.render_as_string(hide_password=False),
        purpose="tests",
        limits=ConnectionLimits(),
    )
    office.scribe._database = database
    office.scribe.start()
    office.tick(office.world.command("InitializeTask", office.world.request("chain")))
    office.trail.received(office.world.command("GetTask", {"task_id": 1}), None)
    office.scribe.stop()
    database.dispose()
    kept = office.world.rows("SELECT outcome FROM tasker_worker_command_audit ORDER BY id")
    assert [row.outcome for row in kept] == ["success", "success", "unanswered"]


def test_what_a_command_is_part_of_stands_in_its_row_and_in_that_of_its_answer(
    office: Office,
) -> None:
    received = office.world.command("DiscoverReadyTasks", {})
    said = {"batch_id": "night-7", "task_id": 12, "initiated_by": "olga"}
    command = msgspec.json.decode(received.body, type=Command)
    command = msgspec.structs.replace(command, audit_context=codec.raw(said))
    office.tick(ReceivedCommand(CLIENT, codec.encode(command)))
    asked, answered = office.written()
    assert (asked.audit_context, answered.audit_context) == (said, said)
    assert (asked.batch_uuid, asked.task_id) == ("night-7", 12)
    assert asked.core_id == answered.core_id == office.world.core_id
    office.tick(office.world.command("DiscoverReadyTasks", {}))
    assert [row.audit_context for row in office.written()[2:]] == [None, None]
