"""Topics end with one space: `steps.w1` is a prefix of `steps.w10`, `steps.w1 ` is not."""

from typing import Final

from tasker_zmq.domain.ids import SessionId

STEPS: Final = "steps"
PARTIAL_RESULT: Final = "partial_result"
BATCH_COMPLETION: Final = "batch_completion"
BATCH_ERROR: Final = "batch_error"
RESULTS: Final = "results"

RESULT_TOPICS: Final = (PARTIAL_RESULT, BATCH_COMPLETION, BATCH_ERROR, RESULTS)
LEGACY_STEPS_TOPIC: Final = b"steps "


def subscription(topic: str) -> bytes:
    """What a subscriber asks for to get exactly this topic."""
    return f"{topic} ".encode()


def steps_topic(session_id: SessionId) -> bytes:
    """The topic that carries one session's batches and nobody else's."""
    return f"{STEPS}.{session_id} ".encode()
