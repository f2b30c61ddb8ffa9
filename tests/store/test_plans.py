"""Hot statements find their rows by key, however many others there are and whenever planned.

A plan may be made while the tables are still empty (a fresh database) and is kept for the life of
the connection; the server may not have analysed a table that grew, or it may. So each statement is
explained four times.
"""

import fcntl
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection

from tasker_zmq.store import arrays, connection, statements
from tasker_zmq.store.connection import ConnectionLimits
from tests import databases
from tests.store import volume
from tests.store.plan_cases import CASES, NOW
from tests.store.question_cases import QUESTIONS, ROWS_MAX, explain_questions

LARGE = re.compile(
    r"tasker_(tasks|workflow_steps|workflow_step_edges|\w*transitions|step_execution_batch\w*"
    r"|worker_registrations|worker_command_audit\w*|dead_letters|submissions)"
)
ASKED = "asked by people"
PLANNED = ("while empty", "while small", "full but never analysed", "analysed")
BLOCKS_MAX = 1_500


def prepared(name: str) -> tuple[str, list[str]]:
    """The statement with numbered parameters, and their names in that order."""
    order: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match.group(1) not in order:
            order.append(match.group(1))
        return f"${order.index(match.group(1)) + 1}"

    return re.sub(r"(?<!:):([a-z_]+)", number, statements.source(name)), order


def sql(value: object) -> str:
    """A value as it stands in EXECUTE."""
    if isinstance(value, list):
        value = arrays.literal(value)
    if isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "NULL" if value is None else str(value)


def execute(name: str) -> str:
    _, order = prepared(name)
    return f"EXECUTE {name}({', '.join(sql(CASES[name].values[each]) for each in order)})"


def prepare_all(session: Connection) -> None:
    """PREPARE each statement and have it planned now; the plan is kept for later executions."""
    for name in statements.names():
        session.exec_driver_sql(f"PREPARE {name} AS {prepared(name)[0]}")
        session.exec_driver_sql(f"EXPLAIN {execute(name)}")
    session.commit()


def explain(session: Connection, name: str) -> dict[str, Any]:
    """What really happened; nothing of it stays."""
    query = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execute(name)}"
    (plan,) = session.exec_driver_sql(query).scalar_one()
    session.rollback()
    return dict(plan["Plan"])


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def touched(node: Mapping[str, Any]) -> float:
    """Rows that a node returned or looked at in vain, over all its loops."""
    vain = sum(value for key, value in node.items() if key.startswith("Rows Removed by"))
    return float((node["Actual Rows"] + vain) * node["Actual Loops"])


def explain_all(session: Connection, found: "Plans", planned: str) -> None:
    for name in statements.names():
        found[planned, name] = explain(session, name)


Plans = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def plans(
    server_url: str,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
) -> Plans:
    """Every statement's plan, by when it was made; the first of several testers makes them."""
    if worker_id == "master":
        return explained(server_url, template_database)
    shared = tmp_path_factory.getbasetemp().parent / "plans.json"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            made = explained(server_url, template_database)
            shared.write_bytes(orjson.dumps([[*key, plan] for key, plan in made.items()]))
    found = orjson.loads(shared.read_bytes())
    return {(planned, name): plan for planned, name, plan in found}


def explained(server_url: str, template_database: str) -> Plans:
    """On a database of its own: to fill its tables takes a while."""
    name = f"{template_database}_plans"
    limits = ConnectionLimits(statement_timeout_seconds=60)
    found: Plans = {}
    with databases.database(server_url, name, template=template_database) as url:
        engine = connection.create(url, purpose="tests", limits=limits, pool_size=3)
        with engine.begin() as session:
            volume.make_room(session, NOW)
        with engine.connect() as early, engine.connect() as later, engine.connect() as filling:
            prepare_all(early)
            volume.define(filling, NOW)
            volume.fill(filling, NOW, first=1, last=volume.SMALL)
            prepare_all(later)
            volume.fill(filling, NOW, first=volume.SMALL + 1, last=volume.TASKS)
            volume.fill_batches(filling, NOW)
            explain_all(early, found, PLANNED[0])
            explain_all(later, found, PLANNED[1])
            later.exec_driver_sql("DEALLOCATE ALL")
            prepare_all(later)
            explain_all(later, found, PLANNED[2])
            filling.exec_driver_sql("ANALYZE")
            filling.commit()
            explain_all(later, found, PLANNED[3])
            found.update({(ASKED, name): plan for name, plan in explain_questions(later)})
        engine.dispose()
    return found


def test_every_statement_has_a_case() -> None:
    assert sorted(CASES) == list(statements.names())


@pytest.mark.parametrize("name", statements.names())
@pytest.mark.parametrize("planned", PLANNED)
def test_a_statement_touches_rows_in_proportion_to_what_it_is_asked_for(
    plans: Plans, planned: str, name: str
) -> None:
    plan = plans[planned, name]
    scans = [
        node["Relation Name"]
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and LARGE.match(node["Relation Name"])
    ]
    assert scans == []
    most = max(nodes(plan), key=touched)
    assert touched(most) <= CASES[name].rows_max, most
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= BLOCKS_MAX


@pytest.mark.parametrize("name", ["next_retry", "retries_due"])
@pytest.mark.parametrize("planned", PLANNED)
def test_retries_are_found_through_the_index_of_those_that_wait(
    plans: Plans, planned: str, name: str
) -> None:
    used = {node.get("Index Name") for node in nodes(plans[planned, name])}
    assert "ix_tasker_workflow_steps_next_attempt_at" in used


@pytest.mark.parametrize("planned", PLANNED)
def test_what_this_core_owns_already_costs_a_claim_nothing(plans: Plans, planned: str) -> None:
    plan = plans[planned, "claim_tasks"]
    assert plan["Actual Rows"] == volume.TASKS - volume.ORPHANED_FROM + 1
    assert sum(touched(node) for node in nodes(plan)) < 300


def test_statements_are_explained_on_rows_that_they_move(plans: Plans) -> None:
    empty = {
        name
        for name in statements.names()
        if not any(touched(node) for node in nodes(plans["analysed", name]))
    }
    assert empty == set()


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_about_an_hour_reads_no_other_hours(plans: Plans, name: str) -> None:
    plan = plans[ASKED, name]
    scans = [
        node["Relation Name"]
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and LARGE.match(node["Relation Name"])
    ]
    assert scans == []
    most = max(nodes(plan), key=touched)
    assert touched(most) <= 2 * ROWS_MAX, most  # one of them looks at each of two cores
