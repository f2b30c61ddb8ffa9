"""A daemon whose name another process has taken ends by itself, with one clear line."""

import pytest
from sqlalchemy import create_engine, text

from tests.processes.conftest import StartDaemon
from tests.processes.rig import IMPATIENT
from tests.processes.running import eventually

pytestmark = pytest.mark.slow


def test_a_daemon_whose_name_was_taken_says_so_and_exits_with_1(daemon: StartDaemon) -> None:
    running = daemon(variables=IMPATIENT)
    engine = create_engine(running.database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tasker_cores SET epoch = epoch + 1"))
    engine.dispose()
    running.expected_exit = 1
    eventually(lambda: not running.is_alive, "the daemon ends")
    assert running.process.returncode == 1
    assert "critical core_lost core_id=core-1 epoch=1" in running.said
    assert "error: core 'core-1' (epoch 1) was taken over by another process" in running.said
    assert "Traceback" not in running.said
