"""What becomes of a step whose batch ended without a word: its worker died, or fell silent.

A loss is no failure of the step and uses up none of its tries; but a step that is lost again and
again may be what kills its workers, so losses have a limit of their own.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tasker_zmq.domain.results import DeadLetterReason
from tasker_zmq.domain.states import StepEvent

LOSSES_MAX: Final = 3


class Start(StrEnum):
    """What is known of whether a worker had begun to run the step."""

    NEVER = "never"
    POSSIBLE = "possible"
    CONFIRMED = "confirmed"  # it must not run twice, and the worker was allowed to begin


@dataclass(frozen=True, kw_only=True)
class LossDecision:
    """Where the step goes, and what that is counted as."""

    event: StepEvent
    uncharged: int = 0
    lost: int = 0
    dead_letter_reason: DeadLetterReason | None = None
    reason: str = ""


def decide_loss(
    start: Start, *, losses: int, losses_max: int, task_cancelled: bool = False
) -> LossDecision:
    """Back among the viable steps, to a person who knows more, or to the dead letters.

    Of a cancelled task nothing comes back: its steps end where they are lost.
    """
    if task_cancelled:
        return LossDecision(event=StepEvent.CANCEL, reason="its task was cancelled")
    if start is Start.NEVER:
        return LossDecision(event=StepEvent.LOSE, uncharged=1)
    if start is Start.CONFIRMED:
        return LossDecision(
            event=StepEvent.DOUBT,
            dead_letter_reason=DeadLetterReason.IN_DOUBT,
            reason="the step must not run twice and may have run: decide by hand",
        )
    if losses >= losses_max:
        return LossDecision(
            event=StepEvent.FAIL,
            lost=1,
            dead_letter_reason=DeadLetterReason.MAX_LOSSES_EXCEEDED,
            reason=f"that was loss {losses + 1}, and {losses_max} are allowed: it may be what "
            "kills its workers",
        )
    return LossDecision(event=StepEvent.LOSE, lost=1)
