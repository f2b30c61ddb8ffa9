"""A daemon that is killed or paused under load: nothing is lost, and nothing counts twice."""

import random

import pytest
from sqlalchemy import create_engine, text

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.raw_worker import RawWorker
from tests.processes.rig import (
    FORGIVING,
    IMPATIENT,
    LEDGER,
    WORKLOAD,
    Witness,
    assert_it_held,
    await_no_open_tasks,
    await_steps,
    counted,
    pause,
    results,
    submit_many,
)
from tests.processes.running import RunningDaemon, eventually

pytestmark = pytest.mark.slow

CHAINS = 80
LEAVES = 100
STEPS = 4 * CHAINS + LEAVES + 2
SEED = 20_261_121
PAUSE_SECONDS = 3.0  # of which a session of IMPATIENT survives one
GOOD = 499
POISON = """
CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.worker_id = 'poison' THEN
        RAISE EXCEPTION 'this row cannot be';
    END IF;
    RETURN NEW;
END $$"""
POISONED = f"""
CREATE TRIGGER refuse_poison BEFORE INSERT ON {LEDGER}
FOR EACH ROW EXECUTE FUNCTION refuse_poison()"""


def start_load(running: RunningDaemon, worker: StartWorker, witness: Witness) -> int:
    """Two workers and many tasks; the id of the widest one."""
    for number in (1, 2):
        worker(
            running,
            WORKLOAD,
            name=f"worker-{number}",
            arguments=("--concurrency", "4"),
            variables=witness.variables,
            sessions=number,
        )
    fan = submit_many(running, "tests/fan@1.0.0", [{}])[0]
    submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(CHAINS)])
    return fan


def test_a_daemon_killed_twice_at_any_point_loses_nothing_and_applies_nothing_twice(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    dice = random.Random(SEED)
    running = daemon(variables=FORGIVING)
    fan = start_load(running, worker, witness)
    for earliest, latest in ((1, STEPS // 3), (STEPS // 2, STEPS - 50)):
        await_steps(running, "complete", dice.randint(earliest, latest))
        running.kill()
        running = daemon(variables=FORGIVING)
    await_no_open_tasks(running)
    assert counted(running, "tasker_tasks") == {"complete": CHAINS + 1}
    assert results(running.await_task(fan))["gather"] == LEAVES
    runs = witness.runs()
    assert len(runs) == STEPS
    assert set(runs.values()) <= {1, 2, 3}  # a step may run again, for each death of the daemon
    assert_it_held(running)


def test_a_daemon_paused_for_longer_than_its_sessions_leases_takes_nobody_for_dead(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    running = daemon(variables=IMPATIENT)
    start_load(running, worker, witness)
    pipe = witness.pipe("held")
    held = submit_many(running, "tests/waiting@1.0.0", [{"pipe": str(pipe)}])[0]
    witness.await_run(held, "wait_at")
    pause(running, PAUSE_SECONDS)
    witness.release(pipe)
    await_no_open_tasks(running)
    assert counted(running, "tasker_tasks") == {"complete": CHAINS + 2}
    assert witness.attempts(held, "wait_at") == [1]
    assert set(witness.runs().values()) == {1}
    assert "reason=silence" not in running.said
    assert_it_held(running)


def test_one_poisonous_message_among_hundreds_is_set_aside_alone(
    daemon: StartDaemon, worker: StartWorker, witness: Witness
) -> None:
    """The database refuses one row of the ledger, and work goes on; nothing else is missing."""
    running = daemon(variables=FORGIVING)
    engine = create_engine(running.database_url)
    with engine.begin() as connection:
        connection.execute(text(POISON))
        connection.execute(text(POISONED))
    engine.dispose()
    fan = start_load(running, worker, witness)
    with RawWorker(running, ["nobody.asks"]) as raw:
        for number in range(GOOD + 1):
            told = {"batch_id": "nobody-sent-it", "step_id": number, "status": "completed"}
            raw.report("partial_result", {**told, "worker_id": worker_id(number)})
        counting = f"SELECT count(*) AS n FROM {LEDGER} WHERE worker_id = 'good'"  # noqa: S608
        eventually(
            raw.beating(lambda: running.rows(counting) == [{"n": GOOD}]), "the others are recorded"
        )
        eventually(raw.beating(lambda: running.said.count("message_poisonous") == 1), "it is found")
    await_no_open_tasks(running)
    assert results(running.await_task(fan))["gather"] == LEAVES
    rejected = running.rows(
        f"SELECT message_type, processing_errors FROM {LEDGER} WHERE verdict = 'rejected'"  # noqa: S608
    )
    assert len(rejected) == 1, rejected[:3]
    assert set(witness.runs().values()) == {1}
    assert_it_held(running)


def worker_id(number: int) -> str:
    return "poison" if number == GOOD // 2 else "good"
