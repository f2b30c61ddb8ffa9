"""Every kind of executor runs the same workflows to the same ends, over TCP and Unix sockets."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests import databases
from tests.processes.rig import ROOT, Stage, assert_invariants, results, staged
from tests.processes.running import eventually

pytestmark = pytest.mark.slow

POOL = ROOT / "config" / "pools" / "order_fulfillment.yaml"
ORDERS = ROOT / "workers" / "order_fulfillment" / "orders.json"
# Executors know nothing of sockets: each of them once, and threads over both transports.
EACH = [("thread", "tcp"), ("thread", "ipc"), ("process", "tcp"), ("async", "ipc")]


@pytest.fixture(scope="module", params=EACH, ids="-".join)
def stage(
    request: pytest.FixtureRequest, server_url: str, template_database: str
) -> Iterator[Stage]:
    executor, transport = request.param
    name = f"tasker_tests_{os.getpid()}_{executor}_{transport}"
    with (
        databases.database(server_url, name, template=template_database) as url,
        staged(
            url,
            transport=transport,
            targets=[str(POOL)],
            arguments=["--executor", executor, "--concurrency", "2", "--env", "test"],
        ) as found,
    ):
        yield found
        assert_invariants(found.daemon)


def the_order(expected_state: str) -> dict[str, Any]:
    """The first order of the shipped file that should end in this state."""
    entries = json.loads(ORDERS.read_text(encoding="utf-8"))
    found: dict[str, Any] = next(
        each["order"] for each in entries if each["expected"]["state"] == expected_state
    )
    return found


def step_states(task: Any) -> dict[str, str]:
    return {each["name"]: each["state"] for each in task["steps"]}


def test_a_chain_defined_in_code_hands_each_result_to_the_next(stage: Stage) -> None:
    task = stage.ended("tests/chain@1.0.0", {"number": 10})
    assert results(task) == {"first": 11, "second": 12, "third": 13, "fourth": 14}


def test_an_order_of_the_yaml_pool_is_paid_and_shipped(stage: Stage) -> None:
    task = stage.ended("fulfillment/process_order@1.0.0", the_order("complete"))
    assert results(task)["ship_order"]["shipment_id"] >= 1


def test_a_diamond_of_the_yaml_pool_makes_an_offer(stage: Stage) -> None:
    lines = the_order("complete")["lines"]
    task = stage.ended("fulfillment/quote_order@1.0.0", {"lines": lines})
    assert results(task)["make_quote"]["total_cents"] > 0


def test_a_declined_card_ends_the_task_in_error_without_another_try(stage: Stage) -> None:
    task = stage.ended("fulfillment/process_order@1.0.0", the_order("error"), "error")
    payment = next(each for each in task["steps"] if each["name"] == "process_payment")
    assert (payment["state"], payment["attempts"]) == ("error", 1)
    assert step_states(task)["ship_order"] == "pending"


def test_a_step_that_fails_is_tried_again_after_growing_waits(stage: Stage) -> None:
    task = stage.ended("tests/often@1.0.0", {"failures": 3})
    assert results(task) == {"fail_often": 4}
    assert stage.witness.attempts(task["task_id"], "fail_often") == [1, 2, 3, 4]
    waits = stage.daemon.rows(
        """
        SELECT EXTRACT(EPOCH FROM lead(t.created_at) OVER (ORDER BY t.sort_key) - t.created_at)
            AS seconds, t.to_state
        FROM tasker_workflow_step_transitions t
        JOIN tasker_workflow_steps s USING (workflow_step_id)
        WHERE s.task_id = :task ORDER BY t.sort_key""",
        task=task["task_id"],
    )
    waited = [float(each["seconds"]) for each in waits if each["to_state"] == "waiting_for_retry"]
    assert len(waited) == 3
    assert all(found >= least for found, least in zip(waited, (0.02, 0.04, 0.08), strict=True))


def test_a_step_without_tries_left_ends_its_task_in_error(stage: Stage) -> None:
    task = stage.ended("tests/often@1.0.0", {"failures": 9}, "error")
    assert stage.witness.attempts(task["task_id"], "fail_often") == [1, 2, 3, 4]


def test_a_permanent_error_does_not_stop_the_branch_beside_it(stage: Stage) -> None:
    task = stage.ended("tests/half@1.0.0", {}, "error")
    assert step_states(task) == {
        "root": "complete",
        "fail_for_good": "error",
        "go_on": "complete",
        "never_reached": "pending",
    }
    assert stage.witness.attempts(task["task_id"], "fail_for_good") == [1]


def test_a_step_that_takes_too_long_is_tried_again(stage: Stage) -> None:
    task = stage.ended("tests/hanging@1.0.0", {})
    assert results(task) == {"hang_at_first": 2}
    assert stage.witness.attempts(task["task_id"], "hang_at_first") == [1, 2]


@pytest.mark.parametrize(
    "stage", [each for each in EACH if each[0] == "process"], ids="-".join, indirect=True
)
def test_a_handler_that_ends_its_own_process_is_a_failed_step_and_the_worker_lives(
    stage: Stage,
) -> None:
    task = stage.ended("tests/dying@1.0.0", {})
    assert results(task) == {"die_at_first": 2}
    first, second = (each for each in stage.witness.testimonies if each.task_id == task["task_id"])
    assert first.process_id != second.process_id
    assert stage.worker.is_alive
    eventually(lambda: "handler_process_crashed" in stage.worker.said, "the crash is in the log")
    assert "exit code 7" in stage.worker.said
