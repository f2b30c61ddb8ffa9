"""What is told to those who reported a result as a command: what became of it."""

from collections.abc import Sequence

import msgspec

from tasker_zmq.pipeline.inbox import Letter, ReceivedResult
from tasker_zmq.pipeline.letters import Answerer, letter
from tasker_zmq.pipeline.turn import Turn
from tasker_zmq.protocol import codec
from tasker_zmq.protocol.commands import NULL, SUCCESS, Payload
from tasker_zmq.protocol.reports import ResultReported
from tasker_zmq.store.ledger import LedgerRow

REPLY = "ResultReported"


def letters(
    turn: Turn, received: Sequence[ReceivedResult], rows: Sequence[LedgerRow]
) -> list[Letter]:
    """One answer per message that came as a command; `rows` are the ledger's, in their order."""
    by = Answerer(turn.state.core_id, turn.now)
    return [
        letter(
            each.asked.route,
            each.asked.command_id,
            REPLY,
            payload=Payload(type=SUCCESS, data=codec.raw(_told(row))),
            by=by,
        )
        for each, row in zip(received, rows, strict=False)
        if each.asked is not None
    ]


def _told(row: LedgerRow) -> ResultReported:
    problems = row.processing_errors
    return ResultReported(
        verdict=row.verdict, problems=NULL if problems is None else msgspec.Raw(problems.encode())
    )
