"""Steps that must not run twice wait here until the daemon has said that they may start."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from tasker_zmq.domain.ids import BatchUuid, SessionId
from tasker_zmq.protocol.commands import ConfirmStart, StartConfirmed
from tasker_zmq.worker.runs import RunKey, StepRun

ASK_SECONDS: Final = 1.0
ASK_SECONDS_MAX: Final = 15.0


@dataclass
class _Question:
    runs: tuple[StepRun, ...]
    due: float
    wait_seconds: float


class UnconfirmedRuns:
    """Batches about which the daemon is asked, again and again, until it has answered."""

    def __init__(self) -> None:
        self._questions: dict[BatchUuid, _Question] = {}

    def __len__(self) -> int:
        return len(self._questions)

    def hold(self, batch_id: BatchUuid, runs: tuple[StepRun, ...], *, now: float) -> None:
        """Keep these back; the question is due at once."""
        self._questions[batch_id] = _Question(runs, due=now, wait_seconds=ASK_SECONDS)

    def due(
        self, session_of: Callable[[BatchUuid], SessionId | None], *, now: float
    ) -> list[ConfirmStart]:
        """What is to be asked now; each is due again after a while, and then after twice that."""
        found = []
        for batch_id, question in self._questions.items():
            if question.due <= now:
                question.due = now + question.wait_seconds
                session_id = session_of(batch_id)
                if session_id is None:
                    continue  # a new session has everything asked again
                question.wait_seconds = min(question.wait_seconds * 2, ASK_SECONDS_MAX)
                step_ids = tuple(run.request.step_id for run in question.runs)
                found.append(
                    ConfirmStart(session_id=session_id, batch_id=batch_id, step_ids=step_ids)
                )
        return found

    def ask_again(self, *, now: float) -> None:
        """All questions are due: there is a new session to ask them under."""
        for question in self._questions.values():
            question.due = now
            question.wait_seconds = ASK_SECONDS

    def next_due(self) -> float | None:
        """When `due` has something at the earliest."""
        return min((each.due for each in self._questions.values()), default=None)

    def confirm(self, answer: StartConfirmed) -> tuple[list[StepRun], list[StepRun]]:
        """The runs that may start, and those that never may; none after a first answer."""
        question = self._questions.pop(answer.batch_id, None)
        runs = () if question is None else question.runs
        may: list[StepRun] = []
        never: list[StepRun] = []
        for run in runs:
            (may if run.request.step_id in answer.step_ids else never).append(run)
        return may, never

    def take(self, keys: Collection[RunKey]) -> list[StepRun]:
        """Those of these runs that are kept back here, and no longer are."""
        taken = []
        for batch_id in dict.fromkeys(batch_id for batch_id, _ in keys):
            question = self._questions.get(batch_id)
            if question is None:
                continue
            taken += [run for run in question.runs if run.key in keys]
            question.runs = tuple(run for run in question.runs if run.key not in keys)
            if not question.runs:
                del self._questions[batch_id]
        return taken

    def give_back(self) -> tuple[StepRun, ...]:
        """Every run that is kept back here."""
        runs = tuple(run for each in self._questions.values() for run in each.runs)
        self._questions.clear()
        return runs
