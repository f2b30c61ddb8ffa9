"""Connections that listen."""

from sqlalchemy import Engine, text

from tasker_zmq.daemon.wakeup import Wakeup
from tasker_zmq.store.notifications import listen, notify, wait


def test_what_is_told_is_heard_once_it_is_committed(shared: Engine) -> None:
    with shared.connect() as listening, shared.connect() as telling:
        listen(listening, ["tests"])
        notify(telling, "tests", "rolled back")
        telling.rollback()
        notify(telling, "tests", "kept")
        telling.commit()
        assert wait(listening, 20) == [("tests", "kept")]


def test_whoever_connects_after_a_listener_has_transactions(shared: Engine) -> None:
    with shared.connect() as listening:
        listen(listening, ["tests"])
    with shared.connect() as connection:
        connection.execute(text("CREATE TABLE left_behind ()"))
        connection.rollback()
        found = connection.execute(text("SELECT to_regclass('left_behind')")).scalar_one()
    assert found is None


def test_a_wait_ends_when_its_thread_is_woken(shared: Engine) -> None:
    with Wakeup() as wakeup, shared.connect() as listening:
        listen(listening, ["tests"])
        wakeup.wake()
        assert wait(listening, 600, woken=wakeup.fileno()) == []
