"""Steps that somebody wants sent to one session: they go along with dispatch, before all others.

They get room first, are loaded, written and published with all others, and in the end each is in a
batch or refused with the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tasker_zmq.domain.ids import BatchUuid, SessionId, StepId
from tasker_zmq.pipeline.inbox import Letter
from tasker_zmq.pipeline.viable import Entry

if TYPE_CHECKING:
    from tasker_zmq.pipeline.placing import Placing
    from tasker_zmq.pipeline.turn import Turn

NOT_SENT: Final = "it cannot be sent just now: someone else holds it, or has just moved it"
NO_BYTES: Final = "the worker has as many bytes in hand as a session may"
OVERSIZED: Final = "its context and its parents' results are larger than any message may be"
STOPPING: Final = "this daemon is stopping"
ENDED: Final = "it has ended just now"

Batches = Sequence[tuple[BatchUuid, Sequence[StepId]]]


@dataclass(frozen=True)
class Settled:
    """What became of the steps: in batches, each with its steps, or refused and why."""

    batches: Batches
    refused: Mapping[StepId, str]


@dataclass(frozen=True, kw_only=True)
class Directed:
    """Viable steps for one session; `settle` makes the letter that tells what became of them."""

    session_id: SessionId
    entries: tuple[Entry, ...]
    settle: Callable[[Settled], Letter]


@dataclass
class Directing:
    """One tick's wishes."""

    turn: "Turn"
    placing: "Placing"
    _refused: list[dict[StepId, str]] = field(default_factory=list)

    def admit(self) -> list[Entry]:
        """Steps for which there is room where they are wanted; it is kept for them."""
        admitted: list[Entry] = []
        for number, wish in enumerate(self.turn.directed):
            refused: dict[StepId, str] = {}
            for entry in wish.entries:
                step_id = entry[0].step_id
                problem = self._problem(wish.session_id, step_id, number)
                if problem is None:
                    admitted.append(entry)
                else:
                    refused[step_id] = problem
            self._refused.append(refused)
        return admitted

    def _problem(self, session_id: SessionId, step_id: StepId, wish: int) -> str | None:
        if self.turn.state.draining:
            return STOPPING
        if step_id in self.turn.settled:
            return ENDED
        return self.placing.keep_room(session_id, step_id, wish=wish)

    def letters(self, sent: Batches, kept_back: Mapping[StepId, str]) -> list[Letter]:
        """One for each wish: its batches, and `kept_back` what was loaded and not sent."""
        letters: list[Letter] = []
        for wish, refused in zip(self.turn.directed, self._refused, strict=True):
            wanted = {ready.step_id for ready, _ in wish.entries} - refused.keys()
            batches = [each for each in sent if not wanted.isdisjoint(each[1])]
            given = {step_id for _, step_ids in batches for step_id in step_ids}
            left = {each: kept_back.get(each, NOT_SENT) for each in wanted - given}
            letters.append(wish.settle(Settled(batches, {**refused, **left})))
        return letters
