"""An engine whose core's name another process has taken: it ends, and its log and exit say why."""

import logging

import click
import pytest
from sqlalchemy import Engine, event, text

from tasker_zmq.cli.failures import run
from tasker_zmq.daemon.engine import EngineThread
from tasker_zmq.pipeline.upkeep import CoreLostError
from tasker_zmq.telemetry.events import Event
from tasker_zmq.testing.world import World


def take_name(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE tasker_cores SET epoch = epoch + 1"))


def test_an_engine_that_lost_its_core_ends_and_says_so_once(
    thread: EngineThread, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    take_name(engine)
    with caplog.at_level(logging.INFO):
        thread.run()
    assert isinstance(thread.failure, CoreLostError)
    (record,) = caplog.records
    assert (record.msg, record.levelno) == (Event.CORE_LOST.value, logging.CRITICAL)
    assert record.__dict__["fields"] == {"core_id": "core-1", "epoch": 1}


def test_a_command_that_ends_for_a_lost_core_says_one_line(
    thread: EngineThread, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    take_name(engine)
    thread.run()

    @click.command()
    def daemon() -> None:
        assert thread.failure is not None
        raise thread.failure

    assert run(daemon, [], program="tasker-zmq") == 1
    told = capsys.readouterr().err
    (line,) = [each for each in told.splitlines() if each.startswith("error: ")]
    assert line.startswith("error: core 'core-1' (epoch 1) was taken over by another process, ")
    assert "Traceback" not in told


def test_an_engine_that_lost_its_connection_asks_at_once_whether_the_name_is_still_its_own(
    thread: EngineThread, engine: Engine
) -> None:
    thread._run_tick([])
    thread._drop_connection()  # and with it what told others that this process lives
    take_name(engine)
    with pytest.raises(CoreLostError):
        thread._run_tick([])


def test_a_tick_that_was_stopped_in_its_middle_makes_nobody_silent(
    thread: EngineThread, engine: Engine, world: World
) -> None:
    session_id = world.worker().session_id
    seconds = world.tuning.session_dead_seconds + 1
    event.listen(engine, "commit", lambda _: world.clock.advance(seconds), once=True)
    thread._run_tick([])
    thread._run_tick([])
    assert session_id in world.state.sessions
