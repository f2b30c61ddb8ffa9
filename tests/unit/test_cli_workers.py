"""`tasker-zmq workers`: what is asked of the daemon, and what is read of the rows."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tasker_zmq.clock import SystemClock
from tasker_zmq.domain.administration import Pin, WorkerMode
from tasker_zmq.domain.breaker import CLOSED, Breaker, Pair
from tasker_zmq.domain.ids import CoreId, HandlerClass, SessionId
from tasker_zmq.protocol.workers import (
    ManageAction,
    ManageWorker,
    PingWorker,
    PinTarget,
    WorkerManaged,
    WorkerPinged,
)
from tasker_zmq.store import administration, breakers, reachability, workers
from tasker_zmq.testing import ManualClock
from tests.store.seeding import Cast, told
from tests.unit.shell import Answer, OwnDaemon, asked_for, tasker


@pytest.fixture
def cast(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Cast:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TASKER_DATABASE_URL", database_url)
    with engine.begin() as connection:
        return told(connection, ManualClock(SystemClock().now()))


@pytest.fixture
def answers() -> list[Answer]:
    """What the daemon does; a test puts its own in front."""
    return [lambda _command: WorkerManaged(worker_name="anna", mode=WorkerMode.ENABLED)]


@pytest.mark.parametrize("action", ["drain", "disable", "enable", "unpin"])
def test_a_decision_is_asked_of_the_daemon_with_who_and_why(daemon: OwnDaemon, action: str) -> None:
    result = tasker("workers", action, "anna", "--why", "moving", "--by", "olga")
    assert result.exit_code == 0, result.output
    (command,) = daemon.asked
    request = asked_for(command, ManageWorker)
    assert (request.worker_name, request.action) == ("anna", ManageAction(action))
    assert (request.why, request.by) == ("moving", "olga")
    assert "anna" in result.stdout


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (("--task-name", "shop/orders@1"), PinTarget(named_task="shop/orders@1")),
        (("--handler", "orders.ship"), PinTarget(handler_class="orders.ship")),
        (("--task-id", "7"), PinTarget(task_id=7)),  # type: ignore[arg-type]
    ],
)
def test_a_pin_names_what_is_pinned(
    daemon: OwnDaemon, said: tuple[str, ...], meant: PinTarget
) -> None:
    result = tasker("workers", "pin", "anna", *said, "-o", "json")
    assert json.loads(result.stdout)["mode"] == "enabled"
    (command,) = daemon.asked
    assert asked_for(command, ManageWorker).pin == meant


def test_a_pin_without_a_target_is_refused_before_anything_is_sent(daemon: OwnDaemon) -> None:
    result = tasker("workers", "pin", "anna")
    assert (result.exit_code, daemon.asked) == (2, [])
    assert "give one of --task-name, --handler and --task-id" in result.stderr


def test_a_ping_tells_how_long_it_took(daemon: OwnDaemon, answers: list[Answer]) -> None:
    answers[0] = lambda _command: WorkerPinged(
        worker_name="anna",
        session_id=SessionId("s-anna"),
        core_id="core-1",
        round_trip_ms=1.5,
        subscribed=True,
    )
    result = tasker("workers", "ping", "anna", "--timeout", "2s")
    assert result.exit_code == 0, result.output
    assert "1.5" in result.stdout
    (command,) = daemon.asked
    assert asked_for(command, PingWorker).timeout_ms == 2_000


def test_what_was_decided_is_shown(cast: Cast, engine: Engine) -> None:
    decided = administration.Decided(by="olga", why="moving", now=SystemClock().now())
    with engine.begin() as connection:
        worker_id = administration.worker_id_of(connection, "anna")
        assert worker_id is not None
        administration.set_mode(connection, worker_id, WorkerMode.DRAINING, decided=decided)
        pin = Pin(worker_name="anna", namespace="orders", task_name="fulfil_order")
        administration.add_pin(connection, worker_id, pin, decided=decided)
    assert "draining" in tasker("workers", "list").stdout
    shown = json.loads(tasker("workers", "show", "anna", "-o", "json").stdout)
    assert (shown["mode"], shown["mode_by"], shown["mode_why"]) == ("draining", "olga", "moving")
    assert [each["named_task"] for each in shown["pins"]] == ["orders/fulfil_order"]
    assert [each["workflow"] for each in shown["tasks"]] == ["orders/fulfil_order@1.0.0"]
    page = tasker("workers", "show", "anna").stdout
    assert "orders/fulfil_order" in page
    assert "4711" in page


@pytest.mark.usefixtures("cast")
def test_breakers_are_shown_by_handler_and_counted_in_the_list(engine: Engine) -> None:
    now = SystemClock().now()
    opened = Breaker(
        failures=11,
        opened_at=now - timedelta(seconds=90),
        next_try_at=now + timedelta(seconds=600),
        cool_off_seconds=700.0,
        last_error="OSError: no route\N{REPLACEMENT CHARACTER}",
    )
    half_open = replace(opened, next_try_at=now - timedelta(seconds=1))
    reserve = HandlerClass("orders.reserve")
    changed = {Pair("anna", reserve): opened, Pair("anna", HandlerClass("orders.gone")): half_open}
    with engine.begin() as connection:
        breakers.write(connection, changed, core_id=CoreId("core-1"), now=now)
    assert "2 breakers open" in tasker("workers", "list").stdout
    shown = json.loads(tasker("workers", "show", "anna", "-o", "json").stdout)
    states = {each["handler_class"]: each["breaker"] for each in shown["handlers"]}
    assert (states[reserve], states["orders.gone"]) == ("open", "half_open")
    assert set(states.values()) == {"open", "half_open", "closed"}
    page = tasker("workers", "show", "anna").stdout
    assert "no route" in page
    with engine.begin() as connection:
        breakers.write(connection, {Pair("anna", reserve): CLOSED}, core_id=CoreId("b"), now=now)
        assert breakers.load(connection, now=now).keys() == {
            Pair("anna", HandlerClass("orders.gone"))
        }
    assert "1 breaker open" in tasker("workers", "list").stdout


@pytest.mark.usefixtures("cast")
def test_from_which_cores_a_worker_is_reached_is_shown(engine: Engine) -> None:
    now = SystemClock().now()
    long_ago = now - reachability.UNKNOWN_AFTER
    with engine.begin() as connection:
        for core_id, reachable, at in (
            ("core-a", True, now),
            ("core-b", False, now),
            ("core-c", False, long_ago),
        ):
            workers.start_core(connection, CoreId(core_id), {}, now=now, lease_seconds=60)
            reachability.record(connection, CoreId(core_id), {"anna": reachable}, now=at)
    shown = json.loads(tasker("workers", "show", "anna", "-o", "json").stdout)["reachability"]
    told = {row["core_id"]: (row["transport"], row["is_reachable"]) for row in shown}
    assert told["core-a"] == ("zeromq", True)
    assert told["core-b"] == ("zeromq", False)
    assert told["core-c"] == ("zeromq", None)
    assert any(row["last_verified_at"] for row in shown)
    page = tasker("workers", "show", "anna").stdout
    assert re.search(r"core-a +zeromq +yes +\S", page)
    assert re.search(r"core-b +zeromq +no +\S", page)
    assert re.search(r"core-c +zeromq +not known", page)


@pytest.mark.usefixtures("cast")
def test_a_worker_that_nobody_knows_is_reported_with_the_nearest() -> None:
    result = tasker("workers", "show", "ana")
    assert result.exit_code == 3
    assert "no worker 'ana' has ever registered; did you mean 'anna'?" in result.stderr
