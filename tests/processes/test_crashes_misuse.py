"""Workers and strangers who break the protocol's rules over real sockets: only they notice it."""

from typing import Any

import pytest
import zmq

from tests.processes.conftest import StartDaemon, StartWorker
from tests.processes.raw_worker import RawWorker
from tests.processes.rig import (
    LEDGER,
    WORKLOAD,
    Witness,
    assert_it_held,
    await_no_open_tasks,
    counted,
    resident_bytes,
    results,
    submit_many,
    verdicts,
)
from tests.processes.running import Client, RunningDaemon, eventually

pytestmark = pytest.mark.slow

HANDLER = "tests.raw"
FLOOD = 20_000
FRAMES = 200_000
GROWTH_BYTES_MAX = 64 << 20
CHAINS = 10
PAIR_STEPS = 2
SOON = {"TASKER_TIMEOUTS_STEP_SECONDS": "1s", "TASKER_TIMEOUTS_GRACE_SECONDS": "500ms"}
FOREIGN = """
SELECT s.workflow_step_id AS step_id FROM tasker_workflow_steps s
WHERE NOT EXISTS (
    SELECT 1 FROM tasker_step_execution_batches b
    JOIN tasker_step_execution_batch_steps bs USING (batch_id)
    WHERE b.batch_uuid = CAST(:batch AS uuid) AND bs.workflow_step_id = s.workflow_step_id)"""
PAIR = f"""
from tasker_zmq import step, workflow

@step(handler={HANDLER!r})
def anything():
    return "proper"

pair = workflow("tests/other@1.0.0", anything)
"""
SAID = "message_type = 'partial_result' AND r.session_id = :session"


@pytest.fixture
def running(daemon: StartDaemon) -> RunningDaemon:
    """A daemon that knows a workflow of two steps side by side, for the tests' own workers."""
    found = daemon(transport="tcp", variables={"TASKER_RETRY_JITTER": "0", **SOON})
    template = {
        "name": "pair",
        "namespace_name": "tests",
        "version": "1.0.0",
        "step_templates": [{"name": each, "handler_class": HANDLER} for each in ("one", "two")],
    }
    with found.client() as client:
        verdict = client.ask("PublishTemplates", {"templates": [template]})["verdicts"][0]
    assert verdict["verdict"] == "published"
    return found


def submit_pair(running: RunningDaemon) -> int:
    return submit_many(running, "tests/pair@1.0.0", [{}])[0]


def both_steps(raw: RawWorker) -> list[dict[str, Any]]:
    """The batches, one or two, that carry the pair's steps."""
    batches = [raw.batch()]
    while sum(len(each["steps"]) for each in batches) < PAIR_STEPS:
        batches.append(raw.batch())
    return batches


def assert_work_goes_on(running: RunningDaemon, worker: StartWorker, witness: Witness) -> None:
    """A proper worker runs chains to their end."""
    proper = worker(running, WORKLOAD, name="proper", variables=witness.variables, sessions=None)
    eventually(lambda: "worker_registered" in proper.said, "it has a session")
    tasks = submit_many(running, "tests/chain@1.0.0", [{"number": n} for n in range(CHAINS)])
    for number, task_id in enumerate(tasks):
        assert results(running.await_task(task_id))["fourth"] == number + 4


def test_nobody_speaks_for_a_batch_of_another_session(
    running: RunningDaemon, worker: StartWorker, witness: Witness
) -> None:
    """While the step runs: a session of its own, one that never was, and none at all."""
    task_id = submit_pair(running)
    with RawWorker(running, [HANDLER]) as owner, RawWorker(running, ["x.y"], name="thief") as thief:
        for batch in both_steps(owner):
            for session in (thief.session_id, "0199a3c4-0000-7abc-8def-0123456789ab", None):
                for status in ("completed", "failed"):
                    thief.complete(batch, session_id=session, status=status, output="stolen")
            eventually(
                lambda: sum(verdicts(running, "r.worker_id IS NULL").values()) > 0, "it is heard"
            )
            owner.complete(batch, output="earned")
            owner.close_batch(batch, [each["step_id"] for each in batch["steps"]])
        task = running.await_task(task_id)
        assert results(task) == {"one": "earned", "two": "earned"}
        assert verdicts(running, SAID, session=thief.session_id).keys() == {"rejected"}
        assert verdicts(running, SAID, session=owner.session_id) == {"applied": 2}
    assert_work_goes_on(running, worker, witness)
    assert_it_held(running)


def test_a_worker_that_never_closes_its_batches_has_its_outcomes_counted_all_the_same(
    running: RunningDaemon, worker: StartWorker, witness: Witness
) -> None:
    task_id = submit_pair(running)
    with RawWorker(running, [HANDLER]) as raw:
        for batch in both_steps(raw):
            raw.complete(batch)
        running.await_task(task_id)
        compared = (
            "SELECT DISTINCT reconciliation_status AS found FROM tasker_step_execution_batches"
        )
        eventually(
            raw.beating(lambda: {"found": "pending"} not in running.rows(compared)),
            "what it said is compared with nothing",
        )
        assert {"found": "consistent"} not in running.rows(compared)
        submit_pair(running)
        for batch in both_steps(raw):  # it is still sent work
            raw.complete(batch)
        await_no_open_tasks(running)
    assert_work_goes_on(running, worker, witness)
    assert_it_held(running)


def test_a_worker_that_completes_what_it_was_never_given_moves_nothing_by_it(
    running: RunningDaemon, worker: StartWorker, witness: Witness
) -> None:
    first, other = submit_pair(running), submit_pair(running)
    with RawWorker(running, [HANDLER], credit=1) as raw:
        batch = raw.batch()
        strange = [each["step_id"] for each in running.rows(FOREIGN, batch=batch["batch_id"])]
        assert strange
        for step_id in strange:
            told = {"batch_id": batch["batch_id"], "step_id": step_id, "status": "completed"}
            raw.report("partial_result", {**told, "output": "invented"})
        own = [each["step_id"] for each in batch["steps"]]
        raw.close_batch(batch, [*own, *strange])
        eventually(
            raw.beating(lambda: verdicts(running, SAID, session=raw.session_id) != {}),
            "it is heard",
        )
        assert verdicts(running, SAID, session=raw.session_id).keys() <= {
            "unknown_batch",
            "rejected",
        }
        invented = "SELECT count(*) AS n FROM tasker_workflow_steps WHERE results::text ~ 'invent'"
        assert running.rows(invented) == [{"n": 0}]
    worker(running, PAIR, name="proper", sessions=None)
    for task_id in (first, other):
        running.await_task(task_id)
    assert running.rows(invented) == [{"n": 0}]
    assert_work_goes_on(running, worker, witness)


def test_a_flood_of_results_does_not_grow_the_daemon(
    running: RunningDaemon, worker: StartWorker, witness: Witness
) -> None:
    with RawWorker(running, ["x.y"]) as raw:
        told = {"status": "completed", "output": "x" * 500, "worker_id": "flood"}
        assert_work_goes_on(running, worker, witness)
        before = resident_bytes(running)
        for number in range(FLOOD):
            raw.report("partial_result", {**told, "batch_id": "nobody's", "step_id": number})
        with running.client() as client:  # while most of it is still to be read
            task_id = client.submit("tests/chain@1.0.0", {"number": 1})
        running.await_task(task_id)
        counting = f"SELECT count(*) AS n FROM {LEDGER} WHERE worker_id = 'flood'"  # noqa: S608
        eventually(
            raw.beating(lambda: running.rows(counting) == [{"n": FLOOD}]),
            "all of it is in the ledger",
            seconds_max=60.0,
        )
        grown = resident_bytes(running) - before
    assert grown < GROWTH_BYTES_MAX, f"{grown / (1 << 20):.0f} MiB more"
    assert_it_held(running)


@pytest.mark.parametrize("plane", ["results", "commands"])
def test_a_message_of_very_many_frames_is_refused_and_leaves_no_weight(
    running: RunningDaemon, worker: StartWorker, witness: Witness, plane: str
) -> None:
    assert_work_goes_on(running, worker, witness)
    before = resident_bytes(running)
    if plane == "results":
        with RawWorker(running, ["x.y"]) as raw:
            raw.results.send_multipart([b"partial_result ", *[b"{}"] * FRAMES])
            reasons = "processing_errors ->> 'reason' = 'frame_count'"
            eventually(lambda: verdicts(running, reasons) == {"rejected": 1}, "it is refused")
    else:
        with Client(running.endpoints["commands"]) as client:
            client.socket.setsockopt(zmq.SNDHWM, 0)
            client.send(*[b"{}"] * FRAMES)
            assert client.receive().payload.type == "Error"
    with running.client() as client:
        running.await_task(client.submit("tests/chain@1.0.0", {"number": 1}))
    grown = resident_bytes(running) - before
    assert grown < GROWTH_BYTES_MAX, f"{grown / (1 << 20):.0f} MiB more"
    assert counted(running, "tasker_tasks").keys() == {"complete"}
