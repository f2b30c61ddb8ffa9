"""Somebody who stands outside, writes down what was run and promised, and forgets nothing."""

from collections import Counter
from dataclasses import dataclass

import orjson

from tasker_zmq.protocol.commands import Recorded
from tasker_zmq.protocol.messages import StepRequest
from tests.simulation.timeline import ViolationError

ResultKey = tuple[str, str, int | None, int | None]  # batch, type, step, sequence


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of one step; `number` is in its output, so that its result can be told."""

    number: int
    process: str
    batch_id: str
    request: StepRequest
    began: float


class Witness:
    """What happened outside of the engine."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._by_place: Counter[tuple[str, int]] = Counter()
        self.recorded: dict[ResultKey, str] = {}
        self.refused: dict[ResultKey, str] = {}
        self.tasks: dict[str, int] = {}

    def began(self, process: str, batch_id: str, request: StepRequest, *, now: float) -> Run:
        """A handler was called."""
        place = (batch_id, request.step_id)
        self._by_place[place] += 1
        if self._by_place[place] > 1:
            raise ViolationError(
                "once per batch", f"step {request.step_id} ran twice in batch {batch_id}"
            )
        run = Run(
            number=len(self.runs) + 1,
            process=process,
            batch_id=batch_id,
            request=request,
            began=now,
        )
        self.runs.append(run)
        return run

    def acknowledged(self, entry: Recorded) -> None:
        """The daemon said that a result is in the ledger."""
        self.recorded.setdefault(_key(entry), entry.verdict)

    def told(self, entry: Recorded) -> None:
        """A worker was told so, and forgets the result."""
        if entry.verdict in {"rejected", "unknown_batch"}:
            self.refused.setdefault(_key(entry), entry.verdict)

    def created(self, identity: str, task_id: int) -> None:
        """The daemon said that a task exists."""
        known = self.tasks.setdefault(identity, task_id)
        if known != task_id:
            raise ViolationError(
                "I2 one task per identity", f"'{identity}' is task {known} and task {task_id}"
            )

    def runs_by_step(self) -> dict[int, list[Run]]:
        found: dict[int, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.request.step_id, []).append(run)
        return found


def _key(entry: Recorded) -> ResultKey:
    return (entry.batch_id, entry.message_type, entry.step_id, entry.sequence)


def output_of(run: Run) -> bytes:
    """What a run gives; no two give the same."""
    told = {"run": run.number, "step": run.request.step_name, "task": run.request.task_id}
    return orjson.dumps(told)
