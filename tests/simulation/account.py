"""The final account: what the witness saw against what the database tells."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from tests.simulation.timeline import ViolationError
from tests.simulation.witness import Run

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

_LEDGER = """
SELECT r.raw_message_json ->> 'batch_id', r.message_type,
    CAST(r.raw_message_json ->> 'step_id' AS bigint), r.sequence_number, r.verdict,
    r.processing_errors ->> 'reason'
FROM tasker_step_execution_batch_received_results r"""
_STEPS = """
SELECT s.workflow_step_id, s.task_id, s.name, s.state, s.retryable, s.attempts, s.losses,
    coalesce(CAST(s.results AS text), 'null'), n.depends_on, n.confirm_start
FROM tasker_workflow_steps s
JOIN tasker_tasks t USING (task_id)
JOIN tasker_named_tasks_named_steps n USING (named_task_id, named_step_id)"""
_BATCHES = "SELECT CAST(batch_uuid AS text) FROM tasker_step_execution_batches"

_NOT_SUMMED_UP = """
SELECT CAST(b.batch_uuid AS text) FROM tasker_step_execution_batches b
JOIN tasker_step_execution_batch_discrepancies USING (batch_id)
WHERE kind = 'completion_missing'"""


def settle_accounts(simulation: "Simulation") -> None:
    """Raises ViolationError where witness and database disagree."""
    _memory(simulation)
    _tasks(simulation)
    _ledger(simulation)
    _outboxes(simulation)
    _steps(simulation)
    _published(simulation)


def _memory(simulation: "Simulation") -> None:
    for core in simulation.cores.processes:
        for session in core.state.sessions.values():
            if session.holding:
                held = f"{session.session_id} of {core.name} holds {dict(session.holding)}"
                raise ViolationError("I9 credit comes back", held)


def _tasks(simulation: "Simulation") -> None:
    rows = simulation.database.rows("SELECT identity, task_id FROM tasker_tasks ORDER BY task_id")
    known: dict[str, int] = dict(rows)
    if len(rows) != len(known):
        raise ViolationError("I2 one task per identity", f"{len(rows)} tasks, {len(known)} names")
    for identity, task_id in simulation.witness.tasks.items():
        if known.get(identity) != task_id:
            detail = f"'{identity}' was promised as {task_id} and is {known.get(identity)}"
            raise ViolationError("I2 acknowledged tasks", detail)


def _ledger(simulation: "Simulation") -> None:
    rows = simulation.database.rows(_LEDGER)
    kept = {row[:4] for row in rows}
    for key, verdict in simulation.witness.recorded.items():
        if key not in kept:
            raise ViolationError("I2 acknowledged results", f"{key} ({verdict}) is not there")
    for key, verdict in simulation.witness.refused.items():
        if simulation.outboxes.overtaken(key):
            continue
        why = [row[4:] for row in rows if row[:4] == key]
        raise ViolationError("honest results are heard", f"{key} is {verdict}: {why}")
    [(count,)] = simulation.database.rows(
        "SELECT count(*) FROM tasker_step_execution_batch_received_results"
    )
    if count != simulation.ledger_rows:
        detail = f"{simulation.ledger_rows} results were taken, the ledger has {count}"
        raise ViolationError("I2 each arrival once", detail)


def _outboxes(simulation: "Simulation") -> None:
    """What was on disk was told, and what could not be told was noted by the reconciler."""
    heard = {row[:4] for row in simulation.database.rows(_LEDGER)}
    for key, name in simulation.outboxes.written.items():
        if key not in heard:
            detail = f"{key} was in the outbox of {name}"
            raise ViolationError("what is written is told", detail)
    summed_up = {key[0] for key in heard if key[1] == "batch_completion"}
    noted = {uuid for (uuid,) in simulation.database.rows(_NOT_SUMMED_UP)}
    for batch_id in {key[0] for key in simulation.outboxes.written} - summed_up - noted:
        detail = f"nobody summed up batch {batch_id}, and nobody noticed"
        raise ViolationError("I11 half a batch", detail)


def _steps(simulation: "Simulation") -> None:
    rows = simulation.database.rows(_STEPS)
    results = {(row[1], row[2]): row[7] for row in rows}
    states = {(row[1], row[2]): row[3] for row in rows}
    runs = simulation.witness.runs_by_step()
    for row in rows:
        seen = runs.get(row[0], [])
        _step(row, seen, results=results, states=states)


def _step(
    row: tuple[Any, ...],
    runs: list[Run],
    *,
    results: dict[tuple[int, str], str],
    states: dict[tuple[int, str], str],
) -> None:
    step_id, task_id, name, state, retryable, attempts, losses, result, parents, confirmed = row
    told = f"step {step_id} ({name} of task {task_id}, {state})"
    _given(told, runs, [(each, states[task_id, each], results[task_id, each]) for each in parents])
    # An outcome that only a batch's completion told has no result: its worker died with it.
    if state == "complete" and result != "null":
        number = orjson.loads(result)["run"]
        if number not in {run.number for run in runs}:
            raise ViolationError("results are true", f"{told} has the result of run {number}")
    if len(runs) > attempts:
        raise ViolationError(
            "I7 runs", f"{told} ran {len(runs)} times, {attempts} attempts, {losses} losses"
        )
    if not retryable and len(runs) > 1:
        raise ViolationError("I7 not retryable", f"{told} ran {len(runs)} times")
    if confirmed and losses:
        raise ViolationError("I7 confirmed", f"{told} was lost {losses} times and sent again")


def _given(told: str, runs: list[Run], parents: list[tuple[str, str, str]]) -> None:
    """Each run had the results of its parents, which were complete."""
    wanted = {name: orjson.loads(result) for name, _, result in parents}
    for run in runs:
        if any(state != "complete" for _, state, _ in parents):
            raise ViolationError("I6 parents first", f"{told} ran before its parents were over")
        given = orjson.loads(bytes(run.request.previous_results))
        if given != wanted:
            detail = f"{told} was given {given}, its parents' results are {wanted}"
            raise ViolationError("I6 parents' results", detail)


def _published(simulation: "Simulation") -> None:
    known = {uuid for (uuid,) in simulation.database.rows(_BATCHES)}
    for uuid, (session_id, _) in simulation.watch.batches.items():
        if uuid not in known:
            raise ViolationError("I5 committed", f"batch {uuid} of {session_id} is in no row")
    several = Counter((run.batch_id, run.request.step_id) for run in simulation.witness.runs)
    for (batch_id, step_id), count in several.items():
        if count > 1:
            raise ViolationError("once per batch", f"step {step_id} in {batch_id}: {count} runs")
