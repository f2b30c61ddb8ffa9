"""An engine whose PostgreSQL answers, but refuses: it keeps what came, and blames no message."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

import pytest
from sqlalchemy import Engine, text

from tasker_zmq.daemon.engine import EngineThread
from tasker_zmq.pipeline.inbox import Outbox, Received
from tasker_zmq.telemetry.events import Event
from tasker_zmq.testing.world import Node, World, template
from tests.databases import execute

PAIR = {"a": Node(), "b": Node(after=("a",))}
REFUSALS = 2
A_FEW = 5
DISK_FULL = 'could not extend file "base/1/2": No space left on device'
# Only ticks in which a result arrives come to it: to a tick without any all looks well.
REFUSE = """
CREATE SEQUENCE refusals;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = '{message}', HINT = 'Act.';
END $$;
CREATE {how} EXECUTE FUNCTION refuse()"""
AT_ONCE = "TRIGGER refuse BEFORE INSERT ON tasker_workflow_step_transitions FOR EACH ROW"
A_FEW_TIMES = f"{AT_ONCE} WHEN (nextval('refusals') <= {A_FEW})"  # a rollback counts none back
AT_COMMIT = (
    "CONSTRAINT TRIGGER refuse AFTER INSERT ON tasker_workflow_step_transitions "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
)
NO_MESSAGES_FAULT = {
    "a disk is full": "53100",
    "memory is full": "53200",
    "connections are full": "53300",
    "a limit of the server's": "53400",
    "its disk fails": "58030",
    "a file of its is gone": "58P01",
    "its file system is read-only": "42501",
    "its pages are damaged": "XX001",
    "it shuts down": "57P01",
    "it is a standby": "25006",
    "it ended a transaction that rested": "25P03",
    "a function of ours is gone": "42883",
}


@contextmanager
def refusing(
    engine: Engine, code: str, *, message: str = DISK_FULL, how: str = AT_ONCE
) -> Iterator[None]:
    """Whatever moves a step is refused inside, as the server would refuse it."""
    with engine.begin() as connection:
        connection.execute(text(REFUSE.format(code=code, message=message, how=how)))
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION refuse CASCADE; DROP SEQUENCE refusals CASCADE"))


@contextmanager
def changed(engine: Engine, server_url: str, *, to: str, back: str) -> Iterator[None]:
    """The database is another one inside, and who was connected must connect anew."""
    name = engine.url.database
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "  # noqa: S608 - a name of ours
        f"WHERE datname = '{name}' AND usename = current_user"
    )
    execute(server_url, f'ALTER DATABASE "{name}" {to}')
    execute(server_url, terminate)
    try:
        yield
    finally:
        execute(server_url, f'ALTER DATABASE "{name}" {back}')
        execute(server_url, terminate)
        engine.dispose()


read_only = partial(
    changed,
    to="SET default_transaction_read_only = on",
    back="RESET default_transaction_read_only",
)
closed = partial(changed, to="ALLOW_CONNECTIONS false", back="ALLOW_CONNECTIONS true")


class Ordeal:
    """An engine whose database refuses, until it has refused so often; what it did meanwhile."""

    def __init__(self, thread: EngineThread, *refusals: AbstractContextManager[None]) -> None:
        self.refused = 0
        self.sent: list[Outbox] = []
        self.sent_while_refused = 0
        self._waiting = list(refusals)
        self._now = ExitStack()
        self.engine = EngineThread(
            dataclasses.replace(thread._parts, ticked=self._note, send=self.sent.append)
        )
        self._next()

    def _next(self) -> None:
        self._now.close()
        if self._waiting:
            self._now.enter_context(self._waiting.pop(0))

    def _note(self) -> None:
        """After each try that failed because the database was away."""
        assert self.engine.away
        self.refused += 1
        self.sent_while_refused += len(self.sent)
        if self.refused % REFUSALS == 0:
            self._next()

    def settle(self, inbox: Sequence[Received]) -> None:
        try:
            self.engine._deal_with(inbox)
        finally:
            self._waiting.clear()
            self._now.close()
            self.engine._drop_connection()


def begun(world: World) -> Sequence[Received]:
    """What the worker of a new task says of its first step."""
    world.publish(template("pair", PAIR))
    world.worker()
    world.submit("pair")
    return world.work()


def assert_kept(world: World, ordeal: Ordeal, *, refused: int = REFUSALS) -> None:
    assert ordeal.refused == refused
    assert ordeal.sent_while_refused == 0
    assert not ordeal.engine.away
    assert world.verdicts() == ["applied", "applied"]
    assert ordeal.sent
    (task,) = world.rows("SELECT * FROM tasker_tasks")
    assert world.states(task.task_id) == {"a": "complete", "b": "in_progress"}


@pytest.mark.parametrize("code", NO_MESSAGES_FAULT.values(), ids=NO_MESSAGES_FAULT)
def test_results_that_postgresql_refuses_to_write_are_kept_and_no_message_is_blamed(
    world: World, thread: EngineThread, engine: Engine, code: str
) -> None:
    said = begun(world)
    ordeal = Ordeal(thread, refusing(engine, code))
    ordeal.settle(said)
    assert_kept(world, ordeal)


def test_what_postgresql_refuses_at_the_commit_only_is_kept_as_well(
    world: World, thread: EngineThread, engine: Engine
) -> None:
    said = begun(world)
    ordeal = Ordeal(thread, refusing(engine, "53100", how=AT_COMMIT))
    ordeal.settle(said)
    assert_kept(world, ordeal)


@contextmanager
def renamed(engine: Engine, what: str, *, to: str, back: str) -> Iterator[None]:
    """As while somebody tries a migration by hand."""
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {what} RENAME {to}"))
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {back}"))


LEDGER = "tasker_step_execution_batch_received_results"
TRANSITIONS = "tasker_workflow_step_transitions"


@pytest.mark.parametrize(
    "missing",
    [
        partial(renamed, what=LEDGER, to="TO away", back=f"away RENAME TO {LEDGER}"),
        partial(
            renamed,
            what=TRANSITIONS,
            to="COLUMN to_state TO away",
            back=f"{TRANSITIONS} RENAME COLUMN away TO to_state",
        ),
    ],
    ids=["a table", "a column"],
)
def test_a_schema_that_is_not_the_known_one_for_a_while_buries_no_result(
    world: World,
    thread: EngineThread,
    engine: Engine,
    missing: Callable[..., AbstractContextManager[None]],
) -> None:
    """What only ticks with results touch: to a tick without any all looks well."""
    said = begun(world)
    ordeal = Ordeal(thread, missing(engine))
    ordeal.settle(said)
    assert_kept(world, ordeal)


@pytest.mark.parametrize("another", [read_only, closed], ids=["read-only", "takes nobody in"])
def test_a_database_that_was_made_another_stops_the_work_until_it_is_as_before(
    world: World,
    thread: EngineThread,
    engine: Engine,
    server_url: str,
    another: Callable[..., AbstractContextManager[None]],
) -> None:
    said = begun(world)
    ordeal = Ordeal(thread, another(engine, server_url))
    ordeal.settle(said)
    assert_kept(world, ordeal)


def test_a_command_that_postgresql_refuses_to_write_is_answered_when_it_is_over(
    world: World, thread: EngineThread, engine: Engine
) -> None:
    world.publish(template("pair", PAIR))
    ordeal = Ordeal(thread, refusing(engine, "53100"))
    world.worker()
    ordeal.settle([world.command("InitializeTask", world.request("pair"))])
    assert ordeal.refused == REFUSALS
    assert ordeal.sent_while_refused == 0
    (letter,) = [letter for outbox in ordeal.sent for letter in outbox.letters]
    assert b"TaskInitialized" in letter.body
    assert len(world.rows("SELECT 1 FROM tasker_tasks")) == 1


def test_the_log_says_once_what_postgresql_said_and_again_when_it_says_something_else(
    world: World, thread: EngineThread, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    said = begun(world)
    ordeal = Ordeal(
        thread, refusing(engine, "53100"), refusing(engine, "58030", message="no such luck")
    )
    with caplog.at_level(logging.INFO):
        ordeal.settle(said)
    assert_kept(world, ordeal, refused=2 * REFUSALS)
    assert [(record.msg, record.levelno) for record in caplog.records] == [
        (Event.DATABASE_AWAY.value, logging.ERROR),
        (Event.DATABASE_AWAY.value, logging.ERROR),
        (Event.DATABASE_BACK.value, logging.WARNING),
    ]
    first, second, _ = (record.__dict__["fields"] for record in caplog.records)
    assert DISK_FULL in first["error"]
    assert "no such luck" in second["error"]


def test_a_result_whose_statement_was_cancelled_is_not_blamed_for_it(
    world: World, thread: EngineThread, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    said = begun(world)
    with refusing(engine, "57014", how=A_FEW_TIMES), caplog.at_level(logging.INFO):
        thread._deal_with(said)
    assert len(caplog.records) >= A_FEW
    assert {record.msg for record in caplog.records} == {Event.TICK_FAILED.value}
    assert world.verdicts() == ["applied", "applied"]


def test_a_command_whose_statement_is_cancelled_is_refused_and_holds_up_nobody(
    world: World, thread: EngineThread, engine: Engine
) -> None:
    world.publish(template("pair", PAIR))
    world.worker()
    sent: list[Outbox] = []
    deciding = EngineThread(dataclasses.replace(thread._parts, send=sent.append))
    with refusing(engine, "57014"):
        deciding._deal_with([world.command("InitializeTask", world.request("pair"))])
    deciding._drop_connection()
    (letter,) = [letter for outbox in sent for letter in outbox.letters]
    assert b"the daemon could not carry this out" in letter.body
    assert world.rows("SELECT 1 FROM tasker_tasks") == []
