"""A task asked for by SQL beside a business row: both or neither, and the daemon hears at once."""

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tasker_zmq import TaskerClient
from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.rig import WORKLOAD, Witness, assert_it_held

pytestmark = pytest.mark.slow

# With the slow look an hour away, only the notification can be what finds it.
DEAF_TO_ALL_BUT_NOTIFY = {"TASKER_DISPATCH_SWEEP_SECONDS": "1h"}
SUBMIT = text(
    "SELECT tasker_submit_task('tests/chain', jsonb_build_object('number', CAST(:n AS int)))"
)


def test_a_task_of_a_users_transaction_runs_once_it_is_committed(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=DEAF_TO_ALL_BUT_NOTIFY)
    worker(running, WORKLOAD, variables=witness.variables)
    engine = create_engine(running.database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (number integer)"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        connection.execute(SUBMIT, {"n": 1})
        connection.rollback()
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (2)"))
        task_id = connection.execute(SUBMIT, {"n": 2}).scalar_one()
    with TaskerClient(running.endpoints["commands"]) as client:
        while not client.tasks():  # made a moment after the commit
            pass
        assert client.wait(task_id, timeout_seconds=30).check().context == {"number": 2}
        assert len(client.tasks()) == 1
    assert_it_held(running)
